//! `vouchsafe crds`

use super::{Failure, output};

pub(super) fn execute() -> Result<(), Failure> {
    let files = crate::api::crds_yaml().map_err(|error| Failure::internal(error.to_string()))?;
    let text: String = files.iter().map(|(_, yaml)| format!("---\n{}\n", yaml.trim_end())).collect();
    output::print(text.trim_end())
}
