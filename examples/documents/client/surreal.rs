//! A client of SurrealDB's `/sql`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value as Json;
use ureq::http::Method;

use super::{ClientError, Comparison, Direction, Documents, Fields, Http, Wanted, is_plain};

#[derive(Debug)]
pub(crate) struct Surreal {
    http: Http,
    namespace: String,
    database: String,
}

impl Surreal {
    pub(crate) fn new(
        agent: ureq::Agent,
        base: &str,
        (namespace, database): (&str, &str),
        (user, password): (&str, &str),
    ) -> Result<Self, ClientError> {
        let basic = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let http = Http::new(agent, base, &format!("Basic {basic}"))?;
        Ok(Self { http, namespace: namespace.to_owned(), database: database.to_owned() })
    }

    /// Runs statements, and returns what each of them found.
    ///
    /// # Errors
    ///
    /// That of the first statement that failed; those before and after it may have been carried out.
    pub(crate) fn sql(&mut self, statements: &str) -> Result<Vec<Json>, ClientError> {
        let headers = [("surreal-ns", self.namespace.as_str()), ("surreal-db", self.database.as_str())];
        let answer = self.http.send(Method::POST, "/sql", &headers, Some(statements.to_owned()))?;
        let json = answer.json()?;
        let Some(entries) = json.as_array() else {
            let reason = json.get("information").and_then(Json::as_str);
            return Err(reason.map_or_else(|| answer.nonsense(), |reason| answer.refused(reason)));
        };
        entries
            .iter()
            .map(|entry| match (entry.get("status").and_then(Json::as_str), entry.get("result")) {
                (Some("OK"), Some(result)) => Ok(result.clone()),
                (Some("ERR"), Some(Json::String(reason))) => Err(answer.refused(reason)),
                _ => Err(answer.nonsense()),
            })
            .collect()
    }

    /// Runs one statement, and returns the records that it found, each without its id.
    fn records(&mut self, statement: &str) -> Result<Vec<(String, Fields)>, ClientError> {
        let nonsense = |result: &Json| ClientError::Nonsense {
            request: "POST /sql".to_owned(),
            answer: result.to_string().chars().take(200).collect(),
        };
        let result = self.sql(statement)?.into_iter().next().unwrap_or_default();
        let Some(rows) = result.as_array() else { return Err(nonsense(&result)) };
        rows.iter()
            .map(|row| {
                let mut fields = row.as_object()?.clone();
                Some((id_within(fields.remove("id")?.as_str()?)?, fields))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| nonsense(&result))
    }

    fn one(&mut self, statement: &str, record: String) -> Result<Fields, ClientError> {
        let first = self.records(statement)?.into_iter().next();
        first.map(|(_, fields)| fields).ok_or(ClientError::NotFound(record))
    }
}

impl Documents for Surreal {
    fn ping(&mut self) -> Result<(), ClientError> {
        // `/health` would answer without asking who is there.
        self.sql("RETURN true").map(drop)
    }

    fn get(&mut self, collection: &str, id: &str) -> Result<Fields, ClientError> {
        let record = record(collection, id);
        self.one(&format!("SELECT * FROM {record}"), record)
    }

    fn put(&mut self, collection: &str, id: &str, fields: &Fields) -> Result<(), ClientError> {
        let statement = format!("UPSERT {} CONTENT {}", record(collection, id), object(fields));
        self.sql(&statement).map(drop)
    }

    fn update(&mut self, collection: &str, id: &str, fields: &Fields) -> Result<(), ClientError> {
        let record = record(collection, id);
        self.one(&format!("UPDATE {record} MERGE {}", object(fields)), record).map(drop)
    }

    fn delete(&mut self, collection: &str, id: &str) -> Result<(), ClientError> {
        self.sql(&format!("DELETE {}", record(collection, id))).map(drop)
    }

    fn find(&mut self, collection: &str, wanted: &Wanted<'_>) -> Result<Vec<(String, Fields)>, ClientError> {
        let mut statement = format!("SELECT * FROM {}", name(collection));
        for (n, (field, comparison, value)) in wanted.conditions.iter().enumerate() {
            let operator = match comparison {
                Comparison::Equal => "=",
                Comparison::NotEqual => "!=",
                Comparison::Less => "<",
                Comparison::AtMost => "<=",
                Comparison::Greater => ">",
                Comparison::AtLeast => ">=",
                Comparison::Contains => "CONTAINS",
            };
            statement += &format!(" {} {} {operator} {value}", if n == 0 { "WHERE" } else { "AND" }, name(field));
        }
        for (n, (field, direction)) in wanted.order.iter().enumerate() {
            let direction = if *direction == Direction::Descending { "DESC" } else { "ASC" };
            statement += &format!("{} {} {direction}", if n == 0 { " ORDER BY" } else { "," }, name(field));
        }
        if let Some(limit) = wanted.limit {
            statement += &format!(" LIMIT {limit}");
        }
        self.records(&statement)
    }

    fn is_broken(&self) -> bool {
        self.http.broken
    }
}

/// A name that can hold anything without ending where a statement would go on.
fn quoted(name: &str) -> String {
    format!("⟨{}⟩", name.replace('\\', "\\\\").replace('⟩', "\\⟩"))
}

fn name(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { quoted(name) }
}

/// Always with the brackets, because without them `person:1` has a number for its id.
fn record(table: &str, id: &str) -> String {
    format!("{}:{}", name(table), quoted(id))
}

/// SurrealQL reads JSON as it is.
fn object(fields: &Fields) -> Json {
    Json::from(fields.clone())
}

/// The id of `table:id`, where both may be quoted: in `⟨⟩`, or, by newer servers, in backticks.
pub(crate) fn id_within(record: &str) -> Option<String> {
    let (mut id, mut closing, mut behind_colon) = (String::new(), None, false);
    let mut letters = record.chars();
    while let Some(letter) = letters.next() {
        let letter = match (letter, closing) {
            ('\\', Some(_)) => letters.next()?,
            ('⟨', None) => {
                closing = Some('⟩');
                continue;
            }
            ('`', None) => {
                closing = Some('`');
                continue;
            }
            (letter, Some(end)) if letter == end => {
                closing = None;
                continue;
            }
            (':', None) if !behind_colon => {
                behind_colon = true;
                continue;
            }
            (letter, _) => letter,
        };
        if behind_colon {
            id.push(letter);
        }
    }
    behind_colon.then_some(id)
}
