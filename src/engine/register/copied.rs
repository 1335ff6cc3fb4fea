//! The register of a copy: it is read, and nothing is decided in it.

use super::super::error::EngineError;
use super::Register;
use crate::format::Key;

impl Register {
    /// Whether what lies here was copied from elsewhere.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn is_copy(&self) -> Result<bool, EngineError> {
        self.exists(&Key::copy()).await
    }

    /// Whether all of the sealed run `run` lies in this copy.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn was_copied(&self, run: u32) -> Result<bool, EngineError> {
        self.exists(&Key::copied(run)).await
    }

    /// Fails in a copy.
    ///
    /// # Errors
    /// [`EngineError::CollectionIsCopy`].
    pub(crate) async fn must_not_be_copy(&self) -> Result<(), EngineError> {
        if self.is_copy().await? {
            return Err(EngineError::CollectionIsCopy { store: self.store.url().to_owned() });
        }
        Ok(())
    }
}
