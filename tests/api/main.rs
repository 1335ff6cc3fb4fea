//! The API as a user meets it: what the committed CRDs promise, which documents are taken, and which
//! are refused, with the field named.

mod accepted;
mod refused;
mod schemas;
