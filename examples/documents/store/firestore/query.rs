//! A `structuredQuery`.

use serde_json::{Map, Value as Json};

use super::{Refusal, known, typed};
use crate::store::table::{Filter, Operator, Query};
use crate::store::value::Value;

/// The collection that is asked, and what it is asked.
pub(super) fn read(body: &Map<String, Json>) -> Result<(String, Query), Refusal> {
    known(body, &["structuredQuery"], "the request")?;
    let query = object(body.get("structuredQuery"), "structuredQuery")?;
    for absent in ["select", "startAt", "endAt", "findNearest"] {
        if query.contains_key(absent) {
            return Err(Refusal::unimplemented(absent));
        }
    }
    known(query, &["from", "where", "orderBy", "offset", "limit"], "structuredQuery")?;

    let from = query.get("from").and_then(Json::as_array).map(Vec::as_slice);
    let Some([from]) = from else {
        return Err(Refusal::invalid("structuredQuery.from has to name one collection"));
    };
    let from = object(Some(from), "structuredQuery.from[0]")?;
    known(from, &["collectionId"], "structuredQuery.from[0]")?;
    let collection = text(from.get("collectionId"), "structuredQuery.from[0].collectionId")?.to_owned();

    let mut filters = Vec::new();
    if let Some(filter) = query.get("where") {
        read_filter(filter, &mut filters)?;
    }
    let mut order = Vec::new();
    for by in query.get("orderBy").map_or(Ok(&[][..]), |by| list(by, "structuredQuery.orderBy"))? {
        let by = object(Some(by), "an entry of orderBy")?;
        known(by, &["field", "direction"], "an entry of orderBy")?;
        let descending = match by.get("direction").map_or("ASCENDING", |it| it.as_str().unwrap_or_default()) {
            "ASCENDING" => false,
            "DESCENDING" => true,
            _ => return Err(Refusal::invalid(format!("Invalid value for direction: {}", Json::from(by.clone())))),
        };
        order.push((field_of(by)?, descending));
    }
    if order.is_empty() {
        // As Firestore does where documents are chosen by less or more.
        let unequal = filters.iter().find(|filter: &&Filter| !matches!(filter.operator, EQUAL | CONTAINS));
        order.extend(unequal.map(|filter| (filter.field.clone(), false)));
    }
    // What lacks a field by which is ordered is not found.
    let present =
        |(field, _): &(String, bool)| Filter { field: field.clone(), operator: Operator::Present, value: Value::Null };
    filters.extend(order.iter().map(present));
    let (start, limit) = (count(query.get("offset"), "offset")?.unwrap_or(0), count(query.get("limit"), "limit")?);
    Ok((collection, Query { filters, order, start, limit }))
}

const EQUAL: Operator = Operator::Equal;
const CONTAINS: Operator = Operator::Contains;

fn read_filter(json: &Json, into: &mut Vec<Filter>) -> Result<(), Refusal> {
    let filter = object(Some(json), "where")?;
    if let Some(composite) = filter.get("compositeFilter") {
        let composite = object(Some(composite), "compositeFilter")?;
        let operator = text(composite.get("op"), "compositeFilter.op")?;
        if operator != "AND" {
            return Err(Refusal::unimplemented(format!("compositeFilter with {operator}")));
        }
        let filters = composite.get("filters").map_or(Ok(&[][..]), |it| list(it, "compositeFilter.filters"))?;
        return filters.iter().try_for_each(|filter| read_filter(filter, into));
    }
    let Some(filter) = filter.get("fieldFilter") else {
        let kind = filter.keys().next().map_or("filter without a kind", String::as_str);
        return Err(Refusal::unimplemented(kind));
    };
    let filter = object(Some(filter), "fieldFilter")?;
    known(filter, &["field", "op", "value"], "fieldFilter")?;
    let field = field_of(filter)?;
    let operator = match text(filter.get("op"), "fieldFilter.op")? {
        "EQUAL" => EQUAL,
        "NOT_EQUAL" => Operator::NotEqual,
        "LESS_THAN" => Operator::Less,
        "LESS_THAN_OR_EQUAL" => Operator::LessOrEqual,
        "GREATER_THAN" => Operator::Greater,
        "GREATER_THAN_OR_EQUAL" => Operator::GreaterOrEqual,
        "ARRAY_CONTAINS" => CONTAINS,
        other => return Err(Refusal::unimplemented(format!("fieldFilter with {other}"))),
    };
    let at = format!("the filter of \"{field}\"");
    let value = typed::value(filter.get("value").unwrap_or(&Json::Null), &at)?;
    into.push(Filter { field, operator, value });
    Ok(())
}

fn field_of(object_with_field: &Map<String, Json>) -> Result<String, Refusal> {
    let reference = object(object_with_field.get("field"), "field")?;
    field(text(reference.get("fieldPath"), "field.fieldPath")?)
}

/// The field that a path names: a plain name, or any name between backticks.
pub(super) fn field(path: &str) -> Result<String, Refusal> {
    let wrong = || Refusal::invalid(format!("Invalid property path \"{path}\"."));
    let Some(quoted) = path.strip_prefix('`') else {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        return match path {
            _ if path.contains('.') => Err(Refusal::unimplemented(format!("nested field paths such as \"{path}\""))),
            _ if path.starts_with(|c: char| c.is_ascii_digit()) || !path.chars().all(plain) => Err(wrong()),
            "" => Err(wrong()),
            _ => Ok(path.to_owned()),
        };
    };
    let (mut name, mut letters) = (String::new(), quoted.chars());
    loop {
        match letters.next() {
            Some('\\') => name.push(letters.next().ok_or_else(wrong)?),
            Some('`') if letters.as_str().is_empty() => return Ok(name),
            Some('`') => return Err(Refusal::unimplemented(format!("nested field paths such as \"{path}\""))),
            Some(letter) => name.push(letter),
            None => return Err(wrong()),
        }
    }
}

fn count(json: Option<&Json>, what: &str) -> Result<Option<usize>, Refusal> {
    let Some(json) = json else { return Ok(None) };
    let count = json.as_u64().filter(|&count| count <= i32::MAX as u64);
    let count = count.ok_or_else(|| Refusal::invalid(format!("{what} has to be a whole number from 0 on: {json}")))?;
    Ok(Some(count as usize))
}

fn object<'a>(json: Option<&'a Json>, what: &str) -> Result<&'a Map<String, Json>, Refusal> {
    json.and_then(Json::as_object).ok_or_else(|| Refusal::invalid(format!("{what} has to be an object")))
}

fn list<'a>(json: &'a Json, what: &str) -> Result<&'a [Json], Refusal> {
    json.as_array().map(Vec::as_slice).ok_or_else(|| Refusal::invalid(format!("{what} has to be an array")))
}

fn text<'a>(json: Option<&'a Json>, what: &str) -> Result<&'a str, Refusal> {
    json.and_then(Json::as_str).ok_or_else(|| Refusal::invalid(format!("{what} has to be a string")))
}
