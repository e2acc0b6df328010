//! What other instances and Redis say: any bytes are an answer or are refused.

use tidings::broker::read_redis_answers;
use tidings_protocol::{
    ClusterMessage, Offset, PresenceChange, PresenceMember, decode_stored, decode_tags, encode_stored,
};

use crate::choices::Choices;

pub(crate) fn redis(data: &[u8]) {
    if let Ok(message) = ClusterMessage::decode(data) {
        assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
    }
    PresenceMember::read(data);
    if let Ok(publication) = decode_stored(data, Some(Offset(1)), 0) {
        let (id, key) = (publication.id.as_deref(), publication.key.as_deref());
        let again = decode_stored(&encode_stored(&publication.payload, id, key), Some(Offset(1)), 0);
        let again = again.expect("what was written is read");
        assert_eq!(format!("{again:?}"), format!("{publication:?}"));
        PresenceChange::read(&publication.payload);
        decode_tags(&publication.payload);
    }
    let mut choices = Choices::new(data);
    let mut pieces = Vec::new();
    while !choices.is_empty() {
        pieces.push(choices.piece());
    }
    read_redis_answers(data, &pieces);
}
