//! `--custom`: a part of a container's spec, from a file, that goes over what the profile says.
//!
//! Follows `applyCustomProfile` of `kubectl/pkg/cmd/debug/debug.go`.

use std::path::Path;

use k8s_openapi::api::core::v1::Container;
use serde_json::Value;

use crate::api::{patch, yaml};
use crate::kubectl::error::{Error, Result};

const SCHEMA: &str = "io.k8s.api.core.v1.Container";

/// What the file says.
#[derive(Debug)]
pub struct Custom(Value);

impl Custom {
    /// Reads the file, JSON or YAML.
    pub fn read(path: &Path) -> Result<Custom> {
        let bytes = std::fs::read(path).map_err(|error| {
            Error::Usage(format!("must pass a container spec json file for custom profile: open {}: {error}", path.display()))
        })?;
        Custom::parse(&bytes).map_err(|why| match why {
            Wrong::Spec(why) => Error::Usage(format!("{} does not contain a valid container spec: {why}", path.display())),
            Wrong::Fixed => Error::Usage("name, command, image, lifecycle and volume devices are not modifiable via custom profile".into()),
        })
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Custom, Wrong> {
        let said = yaml::read(bytes, &mut Vec::new()).map_err(|error| Wrong::Spec(error.to_string()))?;
        let container: Container = serde_json::from_value(said).map_err(|error| Wrong::Spec(error.to_string()))?;
        let some = |list: Option<usize>| list.is_some_and(|length| length > 0);
        let fixed = !container.name.is_empty()
            || some(container.command.as_ref().map(Vec::len))
            || some(container.image.as_ref().map(String::len))
            || container.lifecycle.is_some()
            || some(container.volume_devices.as_ref().map(Vec::len));
        if fixed {
            return Err(Wrong::Fixed);
        }
        // Through the type, so that fields it does not know go.
        serde_json::to_value(container).map(Custom).map_err(|error| Wrong::Spec(error.to_string()))
    }

    /// Puts it over a container.
    pub fn apply(&self, container: &mut Value) -> Result<()> {
        let mut said = self.0.clone();
        said["name"] = container["name"].clone();
        let patched = patch::strategic(container.take(), said.to_string().as_bytes(), SCHEMA);
        *container = patched.map_err(|error| Error::Usage(format!("error creating three way patch to add debug container: {error}")))?;
        Ok(())
    }
}

/// What is wrong with a file.
#[derive(Debug, PartialEq)]
enum Wrong {
    Spec(String),
    /// It says what is said by flags only.
    Fixed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_files_say() {
        let custom = Custom::parse(
            br#"{"env": [{"name": "B", "value": "2"}], "securityContext": {"capabilities": {"drop": ["ALL"]}}, "unknown": 1}"#,
        )
        .unwrap();
        let mut container = json!({"name": "d", "image": "i", "env": [{"name": "A", "value": "1"}],
            "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}});
        custom.apply(&mut container).unwrap();
        assert_eq!(
            container,
            json!({"name": "d", "image": "i", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
                "securityContext": {"capabilities": {"add": ["SYS_PTRACE"], "drop": ["ALL"]}}})
        );
        for (text, fixed) in [
            ("name: x", true),
            ("command: [x]", true),
            ("image: x", true),
            ("lifecycle: {}", true),
            ("volumeDevices: [{name: a, devicePath: /b}]", true),
            ("env: 1", false),
            ("[]", false),
            ("a: [", false),
        ] {
            let why = Custom::parse(text.as_bytes()).unwrap_err();
            assert_eq!(why == Wrong::Fixed, fixed, "{text}: {why:?}");
        }
    }
}
