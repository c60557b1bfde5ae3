//! Values that say their type: `{"integerValue": "17"}`.

use serde_json::{Value as Json, json};

use super::Refusal;
use crate::store::value::{Fields, Value};

/// The fields of a document or map; `at` is where they stand, for the error.
pub(super) fn fields(json: &Json, at: &str) -> Result<Fields, Refusal> {
    let Some(object) = json.as_object() else {
        return Err(Refusal::invalid(format!("{at} is no object: {json}")));
    };
    object.iter().map(|(name, json)| Ok((name.clone(), value(json, &format!("{at}.{name}"))?))).collect()
}

pub(super) fn value(json: &Json, at: &str) -> Result<Value, Refusal> {
    let wrong = || Refusal::invalid(format!("Invalid value at {at}: {json}"));
    let object = json.as_object().filter(|object| object.len() == 1).ok_or_else(wrong)?;
    let (kind, inner) = object.iter().next().ok_or_else(wrong)?;
    let value = match (kind.as_str(), inner) {
        ("nullValue", Json::Null) => Value::Null,
        ("booleanValue", Json::Bool(value)) => Value::Bool(*value),
        // As text, because JSON's numbers lose what is above 2^53.
        ("integerValue", Json::String(digits)) => Value::Integer(digits.parse().map_err(|_| wrong())?),
        ("integerValue", Json::Number(number)) => Value::Integer(number.as_i64().ok_or_else(wrong)?),
        ("doubleValue", Json::Number(number)) => Value::Double(number.as_f64().ok_or_else(wrong)?),
        ("stringValue", Json::String(text)) => Value::Text(text.clone()),
        ("arrayValue", Json::Object(array)) => match array.get("values") {
            None => Value::Array(Vec::new()),
            Some(Json::Array(values)) => {
                let each = values.iter().enumerate().map(|(n, json)| value(json, &format!("{at}[{n}]")));
                Value::Array(each.collect::<Result<_, _>>()?)
            }
            Some(_) => return Err(wrong()),
        },
        ("mapValue", Json::Object(map)) => match map.get("fields") {
            None => Value::Map(Fields::new()),
            Some(json) => Value::Map(fields(json, at)?),
        },
        ("timestampValue" | "bytesValue" | "referenceValue" | "geoPointValue", _) => {
            return Err(Refusal::unimplemented(format!("{kind}, as at {at}")));
        }
        _ => return Err(wrong()),
    };
    Ok(value)
}

pub(super) fn shown(fields: &Fields) -> Json {
    fields.iter().map(|(name, value)| (name.clone(), shown_value(value))).collect()
}

fn shown_value(value: &Value) -> Json {
    match value {
        Value::Null => json!({ "nullValue": null }),
        Value::Bool(value) => json!({ "booleanValue": value }),
        Value::Integer(number) => json!({ "integerValue": number.to_string() }),
        Value::Double(number) => json!({ "doubleValue": number }),
        Value::Text(text) => json!({ "stringValue": text }),
        // An empty list of values is left out, as Firestore does.
        Value::Array(values) if values.is_empty() => json!({ "arrayValue": {} }),
        Value::Array(values) => {
            json!({ "arrayValue": { "values": values.iter().map(shown_value).collect::<Vec<_>>() } })
        }
        Value::Map(fields) => json!({ "mapValue": { "fields": shown(fields) } }),
    }
}
