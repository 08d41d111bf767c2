//! The columns that a definition adds to `kubectl get`.
//!
//! Source: apiextensions-apiserver `pkg/registry/customresource/tableconvertor`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::json_path::JsonPath;
use super::{super::human_duration, Custom};

/// One column after the name.
#[derive(Clone, Debug)]
pub(super) struct CustomColumn {
    name: String,
    data_type: String,
    format: String,
    description: String,
    priority: i64,
    path: JsonPath,
}

/// Those of a version, or its age where it names none.
pub(super) fn read(version: &Value) -> Result<Vec<CustomColumn>, String> {
    let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": "CreationTimestamp is a timestamp representing the server time when this object was created."}]);
    let said = version["additionalPrinterColumns"].as_array().filter(|said| !said.is_empty());
    let columns = said.or_else(|| age.as_array()).into_iter().flatten();
    let column = |said: &Value| {
        let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        Ok(CustomColumn {
            name: text("name"),
            data_type: text("type"),
            format: text("format"),
            description: text("description"),
            priority: said["priority"].as_i64().unwrap_or_default(),
            path: JsonPath::parse(&text("jsonPath"))?,
        })
    };
    columns.map(column).collect()
}

impl CustomColumn {
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.find(object);
        let Some(value) = found.first() else { return Value::Null };
        match (self.data_type.as_str(), value) {
            ("string", Value::String(_)) => (*value).clone(),
            ("string", value) => value.to_string().into(),
            ("integer", Value::Number(number)) => {
                let whole = number.as_i64().or_else(|| number.as_f64().map(|number| number as i64));
                whole.map_or(Value::Null, Value::from)
            }
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*value).clone(),
            ("date", Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) => human_duration(now.duration_since(time).as_secs()).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

impl Custom {
    /// What a Table says of its columns.
    pub fn column_definitions(&self) -> Vec<Value> {
        let name = json!({"name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": "Name must be unique within a namespace."});
        let own = self.columns.iter().map(|column| {
            json!({
                "name": column.name,
                "type": column.data_type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        });
        std::iter::once(name).chain(own).collect()
    }

    /// A row of the Table.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let own = self.columns.iter().map(|column| column.cell(object, now));
        std::iter::once(object["metadata"]["name"].clone()).chain(own).collect()
    }
}
