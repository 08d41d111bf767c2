//! YAML into types and back, by way of a plain value.
//!
//! Why not straight: a reader's code is compiled anew for every type that it reads, and that
//! of YAML is the largest of all; one for values and JSON's for the types is half a megabyte
//! less. What it costs: a value of the wrong type is named, but not its line.
//! Not here: cluster files, whose every problem names its line (`model/located`).

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a text could not be read.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML; names the line.
    #[error("{0}")]
    Syntax(String),
    /// It says something else than what was to be read.
    #[error("{0}")]
    Shape(serde_json::Error),
}

/// Reads one document.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_json::from_value(value(text)?).map_err(YamlError::Shape)
}

fn value(text: &str) -> Result<Value, YamlError> {
    serde_saphyr::from_str(text)
        .map_err(|error| YamlError::Syntax(error.without_snippet().to_string()))
}

/// Writes one document.
pub fn to_string<T: Serialize>(from: &T) -> Result<String, YamlError> {
    let value = serde_json::to_value(from).map_err(YamlError::Shape)?;
    serde_saphyr::to_string(&value).map_err(|error| YamlError::Syntax(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Node {
        name: String,
        port: u16,
        labels: Vec<String>,
    }

    #[test]
    fn what_was_written_is_read_again_whatever_its_words_look_like() {
        let labels = ["1.10", "true", "null", "12e3", "0x1f", "~", "", " a: b #c", "2026-11-29"];
        let labels = labels.map(str::to_owned).to_vec();
        let node = Node { name: "007".into(), port: 6443, labels };
        let text = to_string(&node).unwrap();
        assert_eq!(from_str::<Node>(&text).unwrap(), node, "{text}");
        assert!(text.starts_with("name: "), "the order of the fields stays: {text}");
    }

    #[test]
    fn an_error_names_the_line_or_the_field() {
        let said = |text: &str| from_str::<Node>(text).unwrap_err().to_string();
        assert!(said("name: a\nport: [\n").contains("line"), "{}", said("name: a\nport: [\n"));
        assert_eq!(said("name: a\nlabels: []\n"), "missing field `port`");
        let unknown = said("name: a\nport: 1\nlabels: []\nelse: 1\n");
        assert!(unknown.starts_with("unknown field `else`"), "{unknown}");
    }
}
