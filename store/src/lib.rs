//! The engine of a volume: namespace, maps, packs, journal.
