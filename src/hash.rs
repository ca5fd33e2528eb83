//! Maps by ids, which are looked up for every message: with a hash that is quicker than the standard library's, and seeded, too.

use foldhash::fast::RandomState;

/// In no order.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// In the order of insertion, but for what `swap_remove` moved.
pub(crate) type IndexMap<K, V> = indexmap::IndexMap<K, V, RandomState>;
