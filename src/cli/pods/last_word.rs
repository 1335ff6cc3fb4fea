//! Writing the last word.

use std::path::Path;

use super::super::Failure;
use crate::api::LastWord;

/// Leaves `word` for the controller. A process whose word can't be written has failed, whatever it did: nobody
/// would know.
pub(super) fn leave(path: &Path, word: &LastWord) -> Result<(), Failure> {
    std::fs::write(path, word.text()).map_err(|error| {
        Failure::internal(format!("the last word can't be written to {}: {error}", path.display()))
    })
}
