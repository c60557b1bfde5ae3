//! What is to be had at which path, by which method.

use crate::failure::{Failure, Refused};
use crate::guest_book::{Draft, GuestBook, MOST, SOME};
use crate::http::{Answer, Request, decoded};
use crate::operations;
use crate::pages;
use crate::scope::Access;
use crate::site::Site;
use crate::tally::Kind;
use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

/// Where a request belongs.
pub(crate) struct Route {
    pub(crate) kind: Kind,
    allowed: &'static str,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    /// Works with the database. First the request is read, so that a bad one is refused before it gets a connection.
    Work(Access, fn(&Request) -> Result<Job, Refused>),
    /// Borrows nothing and waits for nobody.
    Tell(fn(&Site) -> Answer),
}

/// What is done within the scope of the request.
pub(crate) type Job = Box<dyn FnOnce(&GuestBook) -> Result<Answer, Failure>>;

/// Finds the place of a request: an unknown path is a 404, another method a 405.
pub(crate) fn find(request: &Request) -> Result<Route, Refused> {
    let read = |kind, f| Route { kind, allowed: "GET, HEAD", action: Action::Work(Access::Read, f) };
    let tell = |f| Route { kind: Kind::Operations, allowed: "GET, HEAD", action: Action::Tell(f) };
    let route = match request.path() {
        "/" => read(Kind::Pages, home),
        "/entries" => Route { kind: Kind::Writes, allowed: "POST", action: Action::Work(Access::Write, write) },
        "/api/entries" => read(Kind::Api, api),
        path if path.starts_with("/entries/") => read(Kind::Pages, entry),
        "/style.css" => tell(|_| pages::style()),
        "/health" => tell(operations::health),
        "/metrics" => tell(operations::metrics),
        "/pools.json" => tell(operations::pools),
        "/status" => tell(operations::status),
        path => return Err(Refused::NotFound(format!("nothing is at {}", decoded(path)))),
    };
    if route.allowed.split(", ").any(|method| method == request.method) {
        return Ok(route);
    }
    Err(Refused::NotAllowed { method: request.method.clone(), allowed: route.allowed })
}

fn home(request: &Request) -> Result<Job, Refused> {
    let before = number("before", parameter(request.query().as_bytes(), "before")?, i64::MAX)?;
    Ok(Box::new(move |book| Ok(pages::home(&book.excerpt(before, SOME)?))))
}

fn entry(request: &Request) -> Result<Job, Refused> {
    let id = decoded(request.path().strip_prefix("/entries/").unwrap_or_default());
    let id = number("entry", Some(id), i64::MAX)?.unwrap_or_default();
    Ok(Box::new(move |book| Ok(pages::entry(&book.entry(id)?))))
}

fn api(request: &Request) -> Result<Job, Refused> {
    let query = request.query().as_bytes();
    let before = number("before", parameter(query, "before")?, i64::MAX)?;
    let limit = number("limit", parameter(query, "limit")?, MOST)?.unwrap_or(SOME);
    Ok(Box::new(move |book| Ok(Answer::json(200, book.excerpt(before, limit)?.to_json()))))
}

/// Leads on to the entry, so that reloading the page does not write once more. The client hears of it when it is committed.
fn write(request: &Request) -> Result<Job, Refused> {
    let kind = request.header("content-type").unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refused::WrongType(kind.to_owned()));
    }
    let draft = Draft::new(parameter(&request.body, "name")?, parameter(&request.body, "text")?)?;
    Ok(Box::new(move |book| {
        let id = book.add(&draft)?;
        Ok(Answer::new(303, "text/plain; charset=utf-8", "").with("Location", format!("/entries/{id}")))
    }))
}

/// The value of a field of a form, or of a query.
fn parameter(form: &[u8], field: &'static str) -> Result<Option<String>, Refused> {
    let mut values = form_urlencoded::parse(form).filter(|(name, _)| name == field).map(|(_, value)| value);
    let first = values.next().map(Cow::into_owned);
    match values.next() {
        Some(second) => Err(Refused::bad(field, &second, "it was given twice")),
        None => Ok(first),
    }
}

/// From one on.
fn number<N>(field: &'static str, value: Option<String>, most: N) -> Result<Option<N>, Refused>
where
    N: FromStr + PartialOrd + From<u8> + Display,
{
    let Some(value) = value else { return Ok(None) };
    match value.parse() {
        Ok(number) if number >= N::from(1) && number <= most => Ok(Some(number)),
        _ => Err(Refused::bad(field, &value, format!("it must be a number from 1 to {most}"))),
    }
}
