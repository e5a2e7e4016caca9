//! Commands against the memory store.
