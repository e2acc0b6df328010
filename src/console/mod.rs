//! The live page and the browser client, out of the binary: no file to install, no other host to ask.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::instance::Instance;

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static str,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    Asset { path: "/", kind: "text/html; charset=utf-8", content: include_str!("index.html") },
    Asset { path: "/console.css", kind: "text/css; charset=utf-8", content: include_str!("console.css") },
    Asset { path: "/console.js", kind: JAVASCRIPT, content: include_str!("console.js") },
    Asset { path: "/icon.svg", kind: "image/svg+xml", content: include_str!("icon.svg") },
    Asset {
        path: "/tidings.js",
        kind: JAVASCRIPT,
        content: include_str!("../../protocol/js/dist/tidings.js"),
    },
];

/// Scripts and styles of this server only: whatever a publication holds, the page cannot be made to run it.
const POLICY: &str =
    "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'";

/// The page's routes.
pub fn router() -> Router<Arc<Instance>> {
    ASSETS.iter().fold(Router::new(), |router, asset| router.route(asset.path, get(async || serve(asset))))
}

fn serve(asset: &'static Asset) -> impl IntoResponse {
    let headers =
        [(CONTENT_TYPE, asset.kind), (CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-cache")];
    (headers, asset.content)
}
