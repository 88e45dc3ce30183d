//! From the records of former layouts to those of the present one.

use serde_json::{Value, json};

use crate::model::records::SCHEMA;

/// What became of a record from one layout to the next: the table, and the record.
type Step = fn(&str, &mut Value);

/// The steps; the first one leads from layout 1 to 2.
const STEPS: [Step; SCHEMA as usize - 1] = [all_fields];

/// Brings a record of a former layout into the present one.
pub fn record(layout: u32, table: &str, value: &mut Value) {
    let done = layout.saturating_sub(1) as usize;
    for step in STEPS.iter().skip(done) {
        step(table, value);
    }
    if table == "meta"
        && let Some(meta) = value.as_object_mut()
    {
        meta.insert("schema".into(), SCHEMA.into());
    }
}

/// Layout 2: fields that came while there was layout 1 are there, with what they stood for while they were not.
fn all_fields(table: &str, value: &mut Value) {
    let fields = match table {
        "networks" => json!({
            "options": {},
            "any_ethertype": false,
            "aging": 300,
            "storm": 2000,
        }),
        "endpoints" => json!({ "macs": 1 }),
        "publishes" => json!({ "owner": "cli" }),
        _ => return,
    };
    let (Some(record), Value::Object(fields)) = (value.as_object_mut(), fields) else {
        return;
    };
    for (name, meant) in fields {
        record.entry(name).or_insert(meant);
    }
}
