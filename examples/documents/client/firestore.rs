//! A client of Firestore's REST interface.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json, json};
use ureq::http::Method;

use super::http::Answer;
use super::{ClientError, Comparison, Direction, Documents, Fields, Http, Wanted, is_plain};

/// What has to be encoded within one part of a path: all but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Debug)]
pub(crate) struct Firestore {
    http: Http,
    database: String,
}

impl Firestore {
    pub(crate) fn new(agent: ureq::Agent, base: &str, project: &str, token: &str) -> Result<Self, ClientError> {
        let http = Http::new(agent, base, &format!("Bearer {token}"))?;
        Ok(Self { http, database: format!("/v1/projects/{}/databases/(default)", encoded(project)) })
    }

    fn path_of(&self, collection: &str, id: &str) -> String {
        format!("{}/documents/{}/{}", self.database, encoded(collection), encoded(id))
    }

    fn send(&mut self, method: Method, path: &str, body: Option<&Json>) -> Result<(Answer, Json), ClientError> {
        let answer =
            self.http.send(method, path, &[("content-type", "application/json")], body.map(Json::to_string))?;
        let json = answer.json()?;
        Ok((answer, json))
    }

    /// Sends, and takes anything but success for a refusal.
    fn ask(&mut self, method: Method, path: &str, body: Option<&Json>) -> Result<(Answer, Json), ClientError> {
        let (answer, json) = self.send(method, path, body)?;
        if answer.status == 200 { Ok((answer, json)) } else { Err(refusal(&answer, &json)) }
    }

    /// The same where a document may not be there.
    fn ask_of(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Json>,
        name: (&str, &str),
    ) -> Result<(Answer, Json), ClientError> {
        let (answer, json) = self.send(method, path, body)?;
        match answer.status {
            200 => Ok((answer, json)),
            404 => Err(ClientError::NotFound(format!("{}/{}", name.0, name.1))),
            _ => Err(refusal(&answer, &json)),
        }
    }
}

impl Documents for Firestore {
    fn ping(&mut self) -> Result<(), ClientError> {
        self.ask(Method::GET, &self.database.clone(), None).map(drop)
    }

    fn get(&mut self, collection: &str, id: &str) -> Result<Fields, ClientError> {
        let path = self.path_of(collection, id);
        let (answer, document) = self.ask_of(Method::GET, &path, None, (collection, id))?;
        plain_fields(&document).ok_or_else(|| answer.nonsense())
    }

    fn put(&mut self, collection: &str, id: &str, fields: &Fields) -> Result<(), ClientError> {
        let path = self.path_of(collection, id);
        self.ask(Method::PATCH, &path, Some(&json!({ "fields": typed_fields(fields) }))).map(drop)
    }

    fn update(&mut self, collection: &str, id: &str, fields: &Fields) -> Result<(), ClientError> {
        // Without it, a document that is not there would be made of these fields alone.
        let mut path = format!("{}?currentDocument.exists=true", self.path_of(collection, id));
        for name in fields.keys() {
            path += &format!("&updateMask.fieldPaths={}", encoded(&field_path(name)));
        }
        let body = json!({ "fields": typed_fields(fields) });
        self.ask_of(Method::PATCH, &path, Some(&body), (collection, id)).map(drop)
    }

    fn delete(&mut self, collection: &str, id: &str) -> Result<(), ClientError> {
        let path = self.path_of(collection, id);
        self.ask(Method::DELETE, &path, None).map(drop)
    }

    fn find(&mut self, collection: &str, wanted: &Wanted<'_>) -> Result<Vec<(String, Fields)>, ClientError> {
        let path = format!("{}/documents:runQuery", self.database);
        let query = json!({ "structuredQuery": structured(collection, wanted) });
        let (answer, rows) = self.ask(Method::POST, &path, Some(&query))?;
        let rows = rows.as_array().ok_or_else(|| answer.nonsense())?;
        // An entry without a document tells the time alone.
        let documents = rows.iter().filter_map(|row| row.get("document"));
        documents
            .map(|document| {
                let id = document.get("name").and_then(Json::as_str).and_then(|name| name.rsplit('/').next());
                Some((id?.to_owned(), plain_fields(document)?))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| answer.nonsense())
    }

    fn is_broken(&self) -> bool {
        self.http.broken
    }
}

fn encoded(part: &str) -> String {
    utf8_percent_encode(part, RESERVED).to_string()
}

fn field_path(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`")) }
}

fn refusal(answer: &Answer, json: &Json) -> ClientError {
    // Firestore's own `runQuery` puts its error into an array.
    let error = json.get("error").or_else(|| json.get(0)?.get("error"));
    let text = |name| error?.get(name)?.as_str();
    match (text("status"), text("message")) {
        (Some(status), Some(message)) => answer.refused(format!("{status}: {message}")),
        _ => answer.nonsense(),
    }
}

fn structured(collection: &str, wanted: &Wanted<'_>) -> Json {
    let field = |name| json!({ "fieldPath": field_path(name) });
    let filters: Vec<_> = wanted
        .conditions
        .iter()
        .map(|(name, comparison, value)| {
            let operator = match comparison {
                Comparison::Equal => "EQUAL",
                Comparison::NotEqual => "NOT_EQUAL",
                Comparison::Less => "LESS_THAN",
                Comparison::AtMost => "LESS_THAN_OR_EQUAL",
                Comparison::Greater => "GREATER_THAN",
                Comparison::AtLeast => "GREATER_THAN_OR_EQUAL",
                Comparison::Contains => "ARRAY_CONTAINS",
            };
            json!({ "fieldFilter": { "field": field(name), "op": operator, "value": typed(value) } })
        })
        .collect();
    let order: Vec<_> = wanted
        .order
        .iter()
        .map(|(name, direction)| {
            let descending = *direction == Direction::Descending;
            json!({ "field": field(name), "direction": if descending { "DESCENDING" } else { "ASCENDING" } })
        })
        .collect();
    let mut query = json!({ "from": [{ "collectionId": collection }], "orderBy": order });
    if let Some(members) = query.as_object_mut() {
        if !filters.is_empty() {
            let all = json!({ "compositeFilter": { "op": "AND", "filters": filters } });
            members.insert("where".to_owned(), all);
        }
        members.extend(wanted.limit.map(|limit| ("limit".to_owned(), Json::from(limit))));
    }
    query
}

/// JSON with each value's type beside it.
fn typed(value: &Json) -> Json {
    match value {
        Json::Null => json!({ "nullValue": null }),
        Json::Bool(value) => json!({ "booleanValue": value }),
        Json::Number(number) if number.is_i64() => json!({ "integerValue": number.to_string() }),
        Json::Number(number) => json!({ "doubleValue": number }),
        Json::String(text) => json!({ "stringValue": text }),
        Json::Array(values) => json!({ "arrayValue": { "values": values.iter().map(typed).collect::<Vec<_>>() } }),
        Json::Object(fields) => json!({ "mapValue": { "fields": typed_fields(fields) } }),
    }
}

fn typed_fields(fields: &Fields) -> Json {
    fields.iter().map(|(name, value)| (name.clone(), typed(value))).collect()
}

/// None where a value has no type that is known here.
fn plain(value: &Json) -> Option<Json> {
    let (kind, inner) = value.as_object()?.iter().next()?;
    Some(match (kind.as_str(), inner) {
        ("nullValue", _) => Json::Null,
        ("booleanValue", Json::Bool(_)) | ("doubleValue", Json::Number(_)) | ("stringValue", Json::String(_)) => {
            inner.clone()
        }
        ("integerValue", Json::String(digits)) => Json::from(digits.parse::<i64>().ok()?),
        // Without members where they are empty.
        ("arrayValue", Json::Object(array)) => match array.get("values") {
            Some(values) => values.as_array()?.iter().map(plain).collect::<Option<_>>()?,
            None => Json::from(Vec::<Json>::new()),
        },
        ("mapValue", Json::Object(_)) => Json::from(plain_fields(inner)?),
        _ => return None,
    })
}

fn plain_fields(document: &Json) -> Option<Fields> {
    let Some(fields) = document.get("fields") else { return Some(Map::new()) };
    fields.as_object()?.iter().map(|(name, value)| Some((name.clone(), plain(value)?))).collect()
}
