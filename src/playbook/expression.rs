//! Expressions and templates, by minijinja, with Ansible's habits.
//!
//! A text that is one expression keeps its type (`"{{ port }}"` is a number); an
//! undefined variable is an error, never an empty text; templates keep their last
//! newline. Not here: which variables exist (`runner`).

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value};

use crate::base::chain::chain;

/// Why a text cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot evaluate {text:?}: {reason}")]
pub struct ExpressionError {
    pub text: String,
    pub reason: String,
}

/// Evaluates; holds no variables itself.
#[derive(Debug)]
pub(crate) struct Evaluator {
    environment: Environment<'static>,
}

impl Evaluator {
    pub(crate) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .trim_blocks(true)
            .build()
            .expect("the default delimiters are valid");
        environment.set_syntax(syntax);
        environment.add_filter("basename", |path: String| {
            path.rsplit('/').next().unwrap_or_default().to_owned()
        });
        environment.add_filter("to_json", |value: minijinja::Value| {
            serde_json::to_string(&value).map_err(|error| {
                minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string())
            })
        });
        Self { environment }
    }

    /// Renders a whole template file.
    pub(crate) fn template(
        &self,
        source: &str,
        vars: &Map<String, Value>,
    ) -> Result<String, ExpressionError> {
        self.environment
            .render_str(source, Serde(vars))
            .map_err(|error| failed(source.lines().next().unwrap_or_default(), &error))
    }

    /// A condition such as `not lab_host and service_mgr == 'systemd'`.
    pub(crate) fn condition(
        &self,
        text: &str,
        vars: &Map<String, Value>,
    ) -> Result<bool, ExpressionError> {
        Ok(self.expression(text, vars)?.is_true())
    }

    fn expression(
        &self,
        text: &str,
        vars: &Map<String, Value>,
    ) -> Result<minijinja::Value, ExpressionError> {
        self.environment
            .compile_expression(text)
            .and_then(|compiled| compiled.eval(Serde(vars)))
            .map_err(|error| failed(text, &error))
    }

    /// Replaces every expression inside a value, at any depth.
    pub(crate) fn value(
        &self,
        value: &Value,
        vars: &Map<String, Value>,
    ) -> Result<Value, ExpressionError> {
        Ok(match value {
            Value::String(text) => self.text(text, vars)?,
            Value::Array(items) => Value::Array(
                items.iter().map(|item| self.value(item, vars)).collect::<Result<_, _>>()?,
            ),
            Value::Object(map) => {
                let mut result = Map::new();
                for (key, inner) in map {
                    result.insert(key.clone(), self.value(inner, vars)?);
                }
                Value::Object(result)
            }
            other => other.clone(),
        })
    }

    fn text(&self, text: &str, vars: &Map<String, Value>) -> Result<Value, ExpressionError> {
        if !text.contains("{{") && !text.contains("{%") {
            return Ok(Value::from(text));
        }
        let trimmed = text.trim();
        let single = trimmed
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"))
            .filter(|inner| !inner.contains("{{") && !inner.contains("}}"));
        if let Some(inner) = single {
            let value = self.expression(inner.trim(), vars)?;
            if value.is_undefined() {
                let reason = "the variable is not defined".to_owned();
                return Err(ExpressionError { text: text.to_owned(), reason });
            }
            return serde_json::to_value(&value).map_err(|error| ExpressionError {
                text: text.to_owned(),
                reason: error.to_string(),
            });
        }
        self.environment
            .render_str(text, Serde(vars))
            .map(Value::from)
            .map_err(|error| failed(text, &error))
    }
}

fn failed(text: &str, error: &minijinja::Error) -> ExpressionError {
    ExpressionError { text: text.to_owned(), reason: chain(error) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Evaluator;

    fn vars() -> serde_json::Map<String, serde_json::Value> {
        let vars = json!({"port": 5000, "lab_host": true, "name": "a1", "stat": {"exists": false}});
        vars.as_object().expect("literal").clone()
    }

    #[test]
    fn a_lone_expression_keeps_its_type() {
        let evaluator = Evaluator::new();
        let value = json!({"port": "{{ port }}", "text": "x{{ port }}", "list": ["{{ name }}"]});
        let done = evaluator.value(&value, &vars()).expect("evaluates");
        assert_eq!(done, json!({"port": 5000, "text": "x5000", "list": ["a1"]}));
    }

    #[test]
    fn conditions_are_ansibles_and_undefined_is_an_error() {
        let evaluator = Evaluator::new();
        let holds = |text| evaluator.condition(text, &vars());
        assert!(!holds("not lab_host").expect("evaluates"));
        assert!(holds("name == 'a1' and not stat.exists").expect("evaluates"));
        assert!(holds("other is not defined").expect("evaluates"));
        holds("other == 1").expect_err("undefined");
        evaluator.value(&json!("{{ other }}"), &vars()).expect_err("undefined");
        evaluator.template("a {{ other }}", &vars()).expect_err("undefined");
    }
}
