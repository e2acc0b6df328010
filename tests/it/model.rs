//! The hub's machines against naive models, over random histories.
