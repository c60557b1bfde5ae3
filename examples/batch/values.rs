//! From a record to the values of a row. This is what workers do side by side.

use super::source::{Line, Record};
use rusqlite::types::Value;
use serde_json::Value as Json;
use std::fmt;

/// A column, and what its values are taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Real,
    Text,
    /// Each value is what it is.
    Any,
}

/// Why a line is no row.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The line is bad.
    Line(String),
    /// The line is not to blame, and the next one would fare alike.
    Database(rusqlite::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(reason) => f.write_str(reason),
            Self::Database(error) => error.fmt(f),
        }
    }
}

/// The values of a line, in the order of the columns.
pub(crate) fn row(line: &Line, columns: &[Column]) -> Result<Vec<Value>, Refused> {
    match &line.record {
        Record::Csv(record) => {
            if record.len() != columns.len() {
                let (has, wanted) = (record.len(), columns.len());
                return Err(Refused::Line(format!("{has} fields, where the header has {wanted}")));
            }
            let fields = record.iter().zip(columns);
            fields.map(|(field, column)| text(field, column)).collect()
        }
        Record::Json(line) => {
            let Json::Object(mut object) = serde_json::from_slice(line).map_err(|error| not_json(&error))? else {
                return Err(Refused::Line("not an object".to_owned()));
            };
            let values = columns.iter().map(|column| json(object.remove(&column.name))).collect();
            match object.keys().next() {
                Some(other) => Err(Refused::Line(format!("there is no column {other:?}"))),
                None => Ok(values),
            }
        }
    }
}

/// serde says `line 1` of each line, which is not the line of the file.
fn not_json(error: &serde_json::Error) -> Refused {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    Refused::Line(format!("not JSON: {what} (column {})", error.column()))
}

fn text(field: &[u8], column: &Column) -> Result<Value, Refused> {
    if field.is_empty() {
        return Ok(Value::Null);
    }
    let text = str::from_utf8(field)
        .map_err(|error| Refused::Line(format!("{:?} is not UTF-8 (byte {})", column.name, error.valid_up_to() + 1)))?;
    let number = match column.kind {
        Kind::Integer => text.parse().map(Value::Integer).ok(),
        // SQLite has no NaN, and would store nothing.
        Kind::Real => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Real),
        Kind::Text | Kind::Any => None,
    };
    Ok(number.unwrap_or_else(|| Value::Text(text.to_owned())))
}

fn json(value: Option<Json>) -> Value {
    match value {
        None | Some(Json::Null) => Value::Null,
        Some(Json::Bool(yes)) => Value::Integer(yes.into()),
        Some(Json::String(text)) => Value::Text(text),
        Some(Json::Number(number)) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            // Beyond 64 bits, its digits are more than a floating-point number has.
            None if number.is_u64() => Value::Text(number.to_string()),
            None => number.as_f64().map_or(Value::Null, Value::Real),
        },
        Some(nested) => Value::Text(nested.to_string()),
    }
}

/// The columns that the first records suggest.
pub(crate) fn columns_of(header: Option<&[String]>, sample: &[Line]) -> Vec<Column> {
    match header {
        Some(names) => {
            let name = |(at, name): (usize, &String)| match name.as_str() {
                "" => format!("column_{}", at + 1),
                name => name.to_owned(),
            };
            let columns = names.iter().enumerate().map(name).enumerate();
            columns.map(|(at, name)| Column { name, kind: kind_of_field(at, sample) }).collect()
        }
        None => columns_of_objects(sample),
    }
}

fn kind_of_field(at: usize, sample: &[Line]) -> Kind {
    let fields = sample.iter().filter_map(|line| match &line.record {
        Record::Csv(record) => str::from_utf8(record.get(at)?).ok().filter(|field| !field.is_empty()),
        Record::Json(_) => None,
    });
    fields.map(kind_of_text).reduce(wider).unwrap_or(Kind::Text)
}

/// A number only if it is written as one: `007` and `+1` are what somebody calls something.
fn kind_of_text(text: &str) -> Kind {
    if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) {
        return Kind::Integer;
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let written = unsigned.starts_with(|c: char| c.is_ascii_digit()) && unsigned.contains(['.', 'e', 'E']);
    let padded = unsigned.starts_with('0') && !unsigned.starts_with("0.");
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && written && !padded => Kind::Real,
        _ => Kind::Text,
    }
}

fn columns_of_objects(sample: &[Line]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for line in sample {
        let Record::Json(line) = &line.record else { continue };
        let Ok(Json::Object(object)) = serde_json::from_slice(line) else { continue };
        for (name, value) in object {
            let kind = match json(Some(value)) {
                Value::Null => None,
                Value::Integer(_) => Some(Kind::Integer),
                Value::Real(_) => Some(Kind::Real),
                Value::Text(_) | Value::Blob(_) => Some(Kind::Text),
            };
            match (columns.iter_mut().find(|column| column.name == name), kind) {
                (Some(column), Some(kind)) => column.kind = wider(column.kind, kind),
                (Some(_), None) => {}
                (None, kind) => columns.push(Column { name, kind: kind.unwrap_or(Kind::Any) }),
            }
        }
    }
    columns
}

fn wider(one: Kind, other: Kind) -> Kind {
    match (one, other) {
        (Kind::Any, kind) | (kind, Kind::Any) => kind,
        _ if one == other => one,
        (Kind::Integer | Kind::Real, Kind::Integer | Kind::Real) => Kind::Real,
        _ => Kind::Text,
    }
}
