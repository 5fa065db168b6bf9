//! What a running platform promises in its `/openapi.json`, held against what it answers.
//!
//! Understands just as much of JSON Schema as the specification uses, and fails on the rest.

use std::collections::BTreeSet;

use primitives::Timestamp;
use serde_json::{Value, json};
use testkit::{Answer, Client};

/// The specification, as the platform itself serves it.
pub(crate) struct Promise(Value);

/// One operation of it.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) says: &'a Value,
}

impl Operation<'_> {
    /// `POST /wallet/transfer`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }
}

impl Promise {
    pub(crate) async fn of(client: &Client) -> Self {
        Self(client.get("/openapi.json").send().await.ok())
    }

    pub(crate) fn document(&self) -> &Value {
        &self.0
    }

    /// Every operation, by path.
    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| {
            let item = item.as_object().unwrap();
            item.iter().map(move |(method, says)| Operation { method, path, says })
        });
        operations.collect()
    }

    pub(crate) fn operation(&self, name: &str) -> Operation<'_> {
        let found = self.operations().into_iter().find(|it| it.name() == name);
        found.unwrap_or_else(|| panic!("the specification has no {name}"))
    }

    /// Insists that a table names each operation once, and no other.
    pub(crate) fn insist_on_all<'a>(&self, table: impl IntoIterator<Item = &'a str>) {
        let mut named = BTreeSet::new();
        for name in table {
            assert!(named.insert(name.to_owned()), "the table names {name} twice");
        }
        let promised: BTreeSet<String> = self.operations().iter().map(Operation::name).collect();
        let missing: Vec<_> = promised.difference(&named).collect();
        let unknown: Vec<_> = named.difference(&promised).collect();
        assert!(missing.is_empty(), "the table of this test lacks {missing:?}: add a row");
        assert!(unknown.is_empty(), "the specification has no {unknown:?}: drop the row");
    }

    /// The schema of the JSON body that an operation takes, if it takes one.
    pub(crate) fn body(&self, operation: Operation<'_>) -> Option<&Value> {
        let schema = operation.says["requestBody"]["content"]["application/json"].get("schema")?;
        // Borrowed from the document, not from the copy of the reference in `operation`.
        Some(self.resolve(schema["$ref"].as_str().unwrap()))
    }

    fn resolve(&self, reference: &str) -> &Value {
        let pointer = reference.strip_prefix('#').unwrap();
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// The schema behind references and single `allOf`s.
    pub(crate) fn plain<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match (schema["$ref"].as_str(), &schema["allOf"][0]) {
            (Some(reference), _) => self.plain(self.resolve(reference)),
            (None, Value::Null) => schema,
            (None, first) => self.plain(first),
        }
    }

    /// Insists that the specification of `name` lists this answer, and that its body is as it says.
    pub(crate) fn insist_on(&self, name: &str, answer: &Answer) {
        let operation = self.operation(name);
        let status = answer.status.as_u16();
        let shown = format!("{name}: {status} {}", answer.text());
        let Some(promised) = operation.says["responses"].get(status.to_string()) else {
            panic!("the specification does not list the status: {shown}");
        };
        let Some(content) = promised["content"].as_object() else {
            assert!(answer.body.is_empty(), "the specification has no body here: {shown}");
            return;
        };
        let media_type = answer.header("content-type").split(';').next().unwrap_or_default();
        let Some(content) = content.get(media_type) else {
            panic!("the specification has {:?}, not {media_type}: {shown}", content.keys());
        };
        let mut wrong = Vec::new();
        self.compare(&content["schema"], &answer.read(), "body", true, &mut wrong);
        assert!(wrong.is_empty(), "not as promised: {wrong:#?} in {shown}");
    }

    /// Adds to `wrong` where `value` is not what `schema` says. `is_whole`: it has no other members.
    fn compare(
        &self,
        schema: &Value,
        value: &Value,
        at: &str,
        is_whole: bool,
        wrong: &mut Vec<String>,
    ) {
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            return self.compare(self.resolve(reference), value, at, is_whole, wrong);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.compare(part, value, at, false, wrong);
        }
        if let Some(choices) = schema["enum"].as_array()
            && !choices.contains(value)
        {
            wrong.push(format!("{at} is none of {choices:?}"));
        }
        let is_right = match schema["type"].as_str() {
            None => true,
            Some("object") => {
                self.compare_members(schema, value, at, is_whole, wrong);
                value.is_object()
            }
            Some("array") => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.compare(&schema["items"], item, &format!("{at}[{place}]"), true, wrong);
                }
                value.is_array()
            }
            Some("string") => value.as_str().is_some_and(|it| is_text(schema, it)),
            Some("integer") => value.as_u64().is_some_and(|it| is_within(schema, it)),
            Some("boolean") => value.is_boolean(),
            Some(other) => panic!("{at}: this test does not know the type {other}"),
        };
        if !is_right {
            wrong.push(format!("{at} is {value}, not {schema}"));
        }
    }

    fn compare_members(
        &self,
        schema: &Value,
        value: &Value,
        at: &str,
        is_whole: bool,
        wrong: &mut Vec<String>,
    ) {
        for name in schema["required"].as_array().into_iter().flatten() {
            if value.get(name.as_str().unwrap()).is_none() {
                wrong.push(format!("{at} lacks {name}"));
            }
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(name) {
                Some(schema) => self.compare(schema, member, &format!("{at}.{name}"), true, wrong),
                None if is_whole => wrong.push(format!("{at}.{name} is not promised")),
                None => {}
            }
        }
    }
}

fn is_text(schema: &Value, text: &str) -> bool {
    match schema["format"].as_str() {
        None => true,
        Some("date-time") => {
            // RFC 3339 in UTC with `Z` and microseconds at most, as the platform itself prints it.
            Timestamp::parse(text).is_ok_and(|it| it.to_string() == text) && text.ends_with('Z')
        }
        Some(other) => panic!("this test does not know the format {other}"),
    }
}

fn is_within(schema: &Value, number: u64) -> bool {
    let bound = |name: &str| schema[name].as_f64();
    let number = f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    bound("minimum").is_none_or(|it| number >= it) && bound("maximum").is_none_or(|it| number <= it)
}

#[test]
fn an_answer_that_is_not_as_promised_is_noticed() {
    let number = json!({ "type": "integer", "minimum": 1, "maximum": 9 });
    let text = json!({ "type": "string", "nullable": true });
    let kind = json!({ "allOf": [{ "$ref": "#/kind" }, { "description": "Its kind." }] });
    let promise = Promise(json!({
        "kind": { "type": "string", "enum": ["a", "b"] },
        "thing": {
            "type": "object",
            "required": ["n", "kind"],
            "properties": {
                "n": number,
                "text": text,
                "kind": kind,
                "at": { "type": "string", "format": "date-time" },
                "list": { "type": "array", "items": { "type": "boolean" } },
            },
        },
    }));
    let wrong = |value: Value| {
        let mut wrong = Vec::new();
        promise.compare(&json!({ "$ref": "#/thing" }), &value, "it", true, &mut wrong);
        wrong.len()
    };
    let at = "2026-01-15T09:15:02.5Z";
    for good in [
        json!({ "n": 1, "kind": "a" }),
        json!({ "n": 9, "kind": "b", "text": null, "at": at, "list": [true, false] }),
    ] {
        assert_eq!(wrong(good.clone()), 0, "{good}");
    }
    for bad in [
        json!([]),
        json!({ "kind": "a" }),
        json!({ "n": 0, "kind": "a" }),
        json!({ "n": 10, "kind": "a" }),
        json!({ "n": 1.5, "kind": "a" }),
        json!({ "n": null, "kind": "a" }),
        json!({ "n": 1, "kind": "c" }),
        json!({ "n": 1, "kind": "a", "more": 1 }),
        json!({ "n": 1, "kind": "a", "text": 5 }),
        json!({ "n": 1, "kind": "a", "at": null }),
        json!({ "n": 1, "kind": "a", "at": "2026-01-15T09:15:02+00:00" }),
        json!({ "n": 1, "kind": "a", "list": [1] }),
    ] {
        assert!(wrong(bad.clone()) > 0, "{bad}");
    }
}
