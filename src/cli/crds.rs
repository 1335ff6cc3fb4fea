//! `vouchsafe crds`

use super::Failure;

pub(super) fn execute() -> Result<(), Failure> {
    let files = crate::api::crds_yaml().map_err(|error| Failure::internal(error.to_string()))?;
    for (_, yaml) in files {
        println!("---\n{}", yaml.trim_end());
    }
    Ok(())
}
