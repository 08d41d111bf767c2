//! Every kind under objects that nobody would write: right fields with wrong values.
//!
//! The values are made from the table of types, so that they get past the first look.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{KINDS, Problems, validate_metadata};
use crate::model::schema::{Scalar, Type};

/// Makes values from a number; the same number makes the same values.
struct Maker(u64);

impl Maker {
    fn next(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn pick<'v>(&mut self, list: &[&'v str]) -> &'v str {
        list[self.next(list.len() as u64) as usize]
    }

    fn text(&mut self, name: &str) -> Value {
        match name {
            "name" | "namespace" => self.pick(&["a", "b", "A b", ""]).into(),
            "protocol" => self.pick(&["TCP", "UDP", "x"]).into(),
            "type" => {
                self.pick(&["ClusterIP", "ExternalName", "RollingUpdate", "Ready", ""]).into()
            }
            _ => self.pick(&["a", "", "10.0.0.1", "Always", "100%", "é", "1Gi", "a/b"]).into(),
        }
    }

    fn scalar(&mut self, scalar: Scalar, format: &str, name: &str) -> Value {
        let number = [0, 1, -1, 80, 65_536, i64::from(i32::MAX)][self.next(6) as usize];
        match scalar {
            Scalar::Text if format == "date-time" => "2026-01-01T00:00:00Z".into(),
            Scalar::Text if format == "byte" => self.pick(&["YQ==", "", "YWJj"]).into(),
            Scalar::Text => self.text(name),
            Scalar::Integer => number.into(),
            Scalar::Number => (number as f64).into(),
            Scalar::Bool => (self.next(2) == 0).into(),
            Scalar::Quantity => self.pick(&["1", "500m", "64Mi", "x", "-1", "1e3"]).into(),
            Scalar::IntOrString if self.next(2) == 0 => number.into(),
            Scalar::IntOrString => self.pick(&["25%", "http", "200%", ""]).into(),
        }
    }

    /// `wild`: now and then something of another type.
    fn value(&mut self, shape: &Type, name: &str, depth: usize, wild: bool) -> Value {
        if wild && self.next(60) == 0 {
            return [json!(null), json!("x"), json!(7), json!([]), json!({}), json!([[]])]
                [self.next(6) as usize]
                .clone();
        }
        match shape.resolve() {
            Type::Scalar(scalar, format) => self.scalar(*scalar, format, name),
            Type::Any => json!({"any": [1]}),
            Type::List { element, .. } => {
                let count = if depth == 0 { 0 } else { self.next(3) };
                (0..count).map(|_| self.value(element, name, depth - 1, wild)).collect()
            }
            Type::Map { element, .. } => {
                let count = if depth == 0 { 0 } else { self.next(3) };
                let keys = ["a", "app.kubernetes.io/name", "cpu", "bad key!"];
                let entries = (0..count).map(|_| {
                    (self.pick(&keys).to_owned(), self.value(element, "", depth - 1, wild))
                });
                Value::Object(entries.collect::<Vec<_>>().into_iter().collect())
            }
            Type::Struct(own) => {
                let mut fields = Map::new();
                for (field, rules) in &own.fields {
                    // What must be there is left out by the wild ones alone. A template's own
                    // version and kind may be missing; what is said must be right.
                    let names_kind = ["apiVersion", "kind"].contains(field);
                    let said = match rules.required {
                        false if names_kind => false,
                        true => !wild || self.next(40) != 0,
                        false => self.next(3) == 0,
                    };
                    if said && (depth > 0 || rules.required) {
                        let inner = self.value(&rules.shape, field, depth.saturating_sub(1), wild);
                        fields.insert((*field).to_owned(), inner);
                    }
                }
                Value::Object(fields)
            }
            Type::Named(_) => Value::Null,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Decoding refuses or gives what defaulting, checking and printing can take.
    #[test]
    fn no_object_of_any_kind_panics(seed in any::<u64>(), wild in any::<bool>()) {
        let mut maker = Maker(seed);
        for kind in KINDS {
            let mut object = maker.value(&kind.schema(), "", 9, wild);
            if let Some(fields) = object.as_object_mut() {
                fields.insert("apiVersion".into(), kind.api_version().into());
                fields.insert("kind".into(), kind.kind.into());
            }
            let Ok(mut decoded) = (kind.decode)(object.clone()) else {
                prop_assert!(wild, "{}: {object}", kind.kind);
                continue;
            };
            (kind.default)(&mut decoded);
            let once = decoded.clone();
            (kind.default)(&mut decoded);
            prop_assert_eq!(&decoded, &once, "{} is defaulted once", kind.kind);
            let mut problems = Problems::default();
            validate_metadata(kind, &decoded, &mut problems);
            (kind.validate)(&decoded, &mut problems);
            (kind.validate_update)(&once, &decoded, &mut problems);
            for cause in problems.into_causes() {
                prop_assert!(!cause.field.is_empty() && !cause.message.is_empty(), "{cause:?}");
            }
            for column in kind.columns {
                let _ = (column.cell)(&decoded, Timestamp::UNIX_EPOCH);
            }
            (kind.on_create)(&mut decoded);
            prop_assert!((kind.decode)(decoded).is_ok(), "{}", kind.kind);
        }
    }
}
