//! What every caching layer owes, checked on a layer of one's own.
