//! The REST shape of Firestore, <https://firebase.google.com/docs/firestore/reference/rest>.
//!
//! There are: `get`, `patch` (with `updateMask` and `currentDocument.exists`) and `delete` of documents, `runQuery`, and
//! `get` of a database. A query knows one collection, comparisons joined by AND, `orderBy`, `offset` and `limit`.
//! Values are null, booleans, integers, doubles, strings, arrays and maps.
//!
//! Not there, and refused by name: subcollections, nested field paths, OR, projections, cursors, transactions, and values
//! that are times, bytes, places or references. Different from the real one: documents that are alike in all that a query
//! orders by always come with ids ascending, and an error of `runQuery` does not come within an array.

mod query;
mod typed;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};

use super::table::{Document, Table, Tables};
use super::value::Fields;
use crate::server::http::{Answer, Request, decoded};

#[derive(Default)]
pub(crate) struct Firestore {
    /// By the full name of the collection.
    tables: Tables<String>,
}

/// An error as Firestore tells it.
pub(super) struct Refusal {
    code: u16,
    status: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { code: 400, status: "INVALID_ARGUMENT", message: message.into() }
    }

    pub(super) fn unimplemented(what: impl Into<String>) -> Self {
        Self { code: 501, status: "UNIMPLEMENTED", message: format!("this stand-in has no {}", what.into()) }
    }

    fn not_found(message: String) -> Self {
        Self { code: 404, status: "NOT_FOUND", message }
    }

    fn answer(self) -> Answer {
        let Self { code, status, message } = self;
        Answer::json(code, json!({ "error": { "code": code, "message": message, "status": status } }))
    }
}

impl Firestore {
    pub(crate) fn answer(&self, request: &Request, admitted: bool) -> Answer {
        if !admitted {
            let message = "Request had invalid authentication credentials.".to_owned();
            return Refusal { code: 401, status: "UNAUTHENTICATED", message }.answer();
        }
        match self.respond(request) {
            Ok(body) => Answer::json(200, body),
            Err(refusal) => refusal.answer(),
        }
    }

    fn respond(&self, request: &Request) -> Result<Json, Refusal> {
        let path = request.path().strip_prefix("/v1/").unwrap_or_default();
        let parts: Vec<_> = path.split('/').map(decoded).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["projects", project, "databases", database]) => {
                Ok(json!({ "name": format!("projects/{project}/databases/{database}"), "type": "FIRESTORE_NATIVE" }))
            }
            ("POST", ["projects", project, "databases", database, "documents:runQuery"]) => {
                self.run_query(&documents_of(project, database)?, request)
            }
            (method, ["projects", project, "databases", database, "documents", collection, id]) => {
                let collection = format!("{}/{}", documents_of(project, database)?, checked(collection, "collection")?);
                let id = checked(id, "document")?;
                match method {
                    "GET" => self.get(&collection, id),
                    "PATCH" => self.patch(collection, id, request),
                    "DELETE" => self.delete(collection, id, request),
                    _ => {
                        Err(Refusal { code: 405, status: "UNIMPLEMENTED", message: format!("{method} of a document") })
                    }
                }
            }
            (_, ["projects", _, "databases", _, "documents", _, _, ..]) => {
                Err(Refusal::unimplemented("subcollections"))
            }
            (method, _) => Err(Refusal::not_found(format!("{method} {} is nothing here", request.path()))),
        }
    }

    fn get(&self, collection: &String, id: &str) -> Result<Json, Refusal> {
        let found = self.tables.read(collection, |table| table.get(id).map(|document| shown(collection, id, document)));
        found.ok_or_else(|| Refusal::not_found(format!("Document \"{collection}/{id}\" not found.")))
    }

    fn patch(&self, collection: String, id: &str, request: &Request) -> Result<Json, Refusal> {
        let body = body_of(request)?;
        known(&body, &["name", "fields", "createTime", "updateTime"], "the document")?;
        let fields = body.get("fields").map_or_else(|| Ok(Fields::new()), |fields| typed::fields(fields, "fields"))?;
        let mut patch = Patch { fields, mask: Vec::new(), must_exist: None };
        for (name, value) in request.parameters() {
            match (name.as_str(), value.as_str()) {
                ("updateMask.fieldPaths", path) => patch.mask.push(query::field(path)?),
                ("currentDocument.exists", "true") => patch.must_exist = Some(true),
                ("currentDocument.exists", "false") => patch.must_exist = Some(false),
                _ => return Err(Refusal::invalid(format!("unknown parameter \"{name}\", or value \"{value}\""))),
            }
        }
        self.tables.write(collection.clone(), |table| {
            let document = patch.apply(table, id, &format!("{collection}/{id}"))?;
            Ok(shown(&collection, id, document))
        })
    }

    /// One that is not there counts as deleted, as in Firestore.
    fn delete(&self, collection: String, id: &str, request: &Request) -> Result<Json, Refusal> {
        if let Some((name, _)) = request.parameters().first() {
            return Err(Refusal::unimplemented(format!("parameter \"{name}\" of a delete")));
        }
        self.tables.write(collection, |table| drop(table.remove(id)));
        Ok(json!({}))
    }

    fn run_query(&self, documents: &str, request: &Request) -> Result<Json, Refusal> {
        let (collection, query) = query::read(&body_of(request)?)?;
        let collection = format!("{documents}/{}", checked(&collection, "collection")?);
        let read_time = rfc3339(now());
        let row = |(id, document): (&String, &Document)| json!({ "document": shown(&collection, id, document), "readTime": read_time });
        let rows: Vec<_> =
            self.tables.read(&collection, |table| query.select(table.iter()).into_iter().map(row).collect());
        // An answer without documents still says when it was made.
        Ok(if rows.is_empty() { json!([{ "readTime": read_time }]) } else { Json::from(rows) })
    }
}

/// What is to become of a document.
struct Patch {
    fields: Fields,
    /// Which fields are meant; none: all.
    mask: Vec<String>,
    must_exist: Option<bool>,
}

impl Patch {
    fn apply<'a>(self, table: &'a mut Table, id: &str, name: &str) -> Result<&'a mut Document, Refusal> {
        let Self { fields, mask, must_exist } = self;
        match (must_exist, table.contains_key(id)) {
            (Some(true), false) => return Err(Refusal::not_found(format!("No document to update: {name}"))),
            (Some(false), true) => {
                let message = format!("Document already exists: {name}");
                return Err(Refusal { code: 409, status: "ALREADY_EXISTS", message });
            }
            _ => {}
        }
        let now = now();
        let document = table.entry(id.to_owned()).or_insert_with(|| Document { created: now, ..Document::default() });
        document.updated = now;
        if mask.is_empty() {
            document.fields = fields;
        } else {
            // A field that the mask names and the body lacks is taken away; one that the mask does not name stays.
            document.fields.retain(|name, _| !mask.contains(name));
            document.fields.extend(fields.into_iter().filter(|(name, _)| mask.contains(name)));
        }
        Ok(document)
    }
}

fn documents_of(project: &str, database: &str) -> Result<String, Refusal> {
    let (project, database) = (checked(project, "project")?, checked(database, "database")?);
    Ok(format!("projects/{project}/databases/{database}/documents"))
}

/// Whether Firestore would take this as an id.
fn checked<'a>(id: &'a str, what: &str) -> Result<&'a str, Refusal> {
    let reserved = id.starts_with("__") && id.ends_with("__");
    if id.is_empty() || id == "." || id == ".." || id.contains(['/', '\u{fffd}']) || id.len() > 1500 || reserved {
        return Err(Refusal::invalid(format!("\"{id}\" is no id for a {what}")));
    }
    Ok(id)
}

fn body_of(request: &Request) -> Result<Map<String, Json>, Refusal> {
    serde_json::from_slice(&request.body)
        .map_err(|error| Refusal::invalid(format!("Invalid JSON payload received. {error}")))
}

/// Refuses a member that nobody would look at.
pub(super) fn known(object: &Map<String, Json>, names: &[&str], whose: &str) -> Result<(), Refusal> {
    match object.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(Refusal::invalid(format!(
            "Invalid JSON payload received. Unknown name \"{name}\" in {whose}: Cannot find field."
        ))),
        None => Ok(()),
    }
}

fn shown(collection: &str, id: &str, document: &Document) -> Json {
    json!({
        "name": format!("{collection}/{id}"),
        "fields": typed::shown(&document.fields),
        "createTime": rfc3339(document.created),
        "updateTime": rfc3339(document.updated),
    })
}

fn now() -> u128 {
    #[allow(clippy::disallowed_methods, reason = "a document's times are times of day")]
    let now = SystemTime::now();
    // A clock before 1970 tells nothing.
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// The days are turned into a date as in Howard Hinnant's `civil_from_days`, whose years begin in March.
fn rfc3339(nanos: u128) -> String {
    let (micros, seconds) = (nanos / 1_000 % 1_000_000, nanos / 1_000_000_000);
    let (day, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u128::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}
