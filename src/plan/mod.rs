<<<<<<< HEAD
//! Decisions as values: pure, without a client, a clock or randomness.

pub mod locality;
pub mod placement;
pub mod spans;
=======
//! Decisions that need nothing but their inputs: no client, no clock, no randomness.

pub mod locality;
>>>>>>> d388c139328ccfa4d3a9350262edc71daf695a15
