//! Tests of the ledger come with the engine's first slice.
