//! The statements of SurrealQL that are known here, and how they are read.
//!
//! ```text
//! CREATE | UPSERT | UPDATE record CONTENT object        UPDATE record MERGE object
//! SELECT * | fields FROM table | record [WHERE condition [AND ...]] [ORDER [BY] field [ASC | DESC], ...] [LIMIT n] [START n]
//! DELETE table | record [WHERE condition [AND ...]]      RETURN value
//! ```
//!
//! A condition compares a field with a value: `=`, `!=`, `<`, `<=`, `>`, `>=`, `CONTAINS`. A record is `table:id`, where an
//! id that is not made of letters, digits and underscores stands in `⟨⟩` or backticks. Ids are text, so `person:1` and
//! `person:⟨1⟩` are the same.

mod token;

use std::fmt;
use std::ops::Bound;

use super::table::{Filter, Operator, Query};
use super::value::{Fields, Value};
pub(crate) use token::split;
use token::{Token, Tokens};

/// Deeper values than these are refused before they cost the stack.
const DEEPEST: u32 = 64;

pub(crate) enum Statement {
    Return(Value),
    /// Without fields all of them.
    Select {
        fields: Option<Vec<String>>,
        source: Source,
        query: Query,
    },
    Write {
        change: Change,
        id: Id,
        fields: Fields,
    },
    Delete {
        source: Source,
        query: Query,
    },
}

#[derive(Clone, Copy)]
pub(crate) enum Change {
    Create,
    Upsert,
    Update { merge: bool },
}

pub(crate) enum Source {
    Table(String),
    Record(Id),
}

pub(crate) struct Id {
    pub(crate) table: String,
    pub(crate) id: String,
}

impl Source {
    pub(crate) fn table(&self) -> &str {
        match self {
            Self::Table(table) => table,
            Self::Record(id) => &id.table,
        }
    }

    /// Which ids of the table are meant.
    pub(crate) fn range(&self) -> (Bound<&str>, Bound<&str>) {
        match self {
            Self::Table(_) => (Bound::Unbounded, Bound::Unbounded),
            Self::Record(id) => (Bound::Included(&id.id), Bound::Included(&id.id)),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let escaped = |name: &str| name.replace('\\', "\\\\").replace('⟩', "\\⟩");
        for (before, name) in [("", &self.table), (":", &self.id)] {
            match plain(name) {
                true => write!(f, "{before}{name}")?,
                false => write!(f, "{before}⟨{}⟩", escaped(name))?,
            }
        }
        Ok(())
    }
}

/// Reads one statement.
pub(crate) fn parse(text: &str) -> Result<Statement, String> {
    let mut parser = Parser { tokens: Tokens::of(text)? };
    let statement = parser.statement()?;
    match parser.tokens.next() {
        None => Ok(statement),
        token => Err(unexpected(token.as_ref(), "the end of the statement")),
    }
}

fn unexpected(token: Option<&Token>, expected: &str) -> String {
    match token {
        Some(token) => format!("Parse error: unexpected {token}, expected {expected}"),
        None => format!("Parse error: unexpected end of the statement, expected {expected}"),
    }
}

struct Parser {
    tokens: Tokens,
}

impl Parser {
    fn statement(&mut self) -> Result<Statement, String> {
        let verbs = ["CREATE", "UPSERT", "UPDATE", "SELECT", "DELETE", "RETURN"];
        let Some(verb) = verbs.into_iter().find(|verb| self.tokens.take_word(verb)) else {
            return Err(unexpected(self.tokens.next().as_ref(), &format!("one of {}", verbs.join(", "))));
        };
        match verb {
            "SELECT" => self.select(),
            "RETURN" => Ok(Statement::Return(self.value(DEEPEST)?)),
            "DELETE" => {
                let source = self.source()?;
                let query = Query { filters: self.conditions()?, ..Query::default() };
                Ok(Statement::Delete { source, query })
            }
            _ => {
                let id = self.record()?;
                let merge = verb == "UPDATE" && self.tokens.take_word("MERGE");
                if !merge {
                    self.expect_word("CONTENT")?;
                }
                let change = match verb {
                    "CREATE" => Change::Create,
                    "UPSERT" => Change::Upsert,
                    _ => Change::Update { merge },
                };
                match self.value(DEEPEST)? {
                    Value::Map(mut fields) => {
                        // It is not a field of its own: the record says it.
                        drop(fields.remove("id"));
                        Ok(Statement::Write { change, id, fields })
                    }
                    other => Err(format!("Can not use {} in a CONTENT clause", other.to_json())),
                }
            }
        }
    }

    fn select(&mut self) -> Result<Statement, String> {
        let fields = if self.tokens.take_sign("*") { None } else { Some(self.separated(Self::name)?) };
        self.expect_word("FROM")?;
        let source = self.source()?;
        let mut query = Query { filters: self.conditions()?, ..Query::default() };
        if self.tokens.take_word("ORDER") {
            self.tokens.take_word("BY");
            query.order = self.separated(|parser| {
                let field = parser.name()?;
                let descending = parser.tokens.take_word("DESC");
                if !descending {
                    parser.tokens.take_word("ASC");
                }
                Ok((field, descending))
            })?;
        }
        if self.tokens.take_word("LIMIT") {
            self.tokens.take_word("BY");
            query.limit = Some(self.count()?);
        }
        if self.tokens.take_word("START") {
            self.tokens.take_word("AT");
            query.start = self.count()?;
        }
        Ok(Statement::Select { fields, source, query })
    }

    fn conditions(&mut self) -> Result<Vec<Filter>, String> {
        let mut filters = Vec::new();
        if self.tokens.take_word("WHERE") {
            loop {
                let field = self.name()?;
                let operator = self.operator()?;
                filters.push(Filter { field, operator, value: self.value(DEEPEST)? });
                if !self.tokens.take_word("AND") && !self.tokens.take_sign("&&") {
                    break;
                }
            }
        }
        Ok(filters)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        if self.tokens.take_word("CONTAINS") {
            return Ok(Operator::Contains);
        }
        match self.tokens.next() {
            Some(Token::Sign("=" | "==")) => Ok(Operator::Equal),
            Some(Token::Sign("!=")) => Ok(Operator::NotEqual),
            Some(Token::Sign("<")) => Ok(Operator::Less),
            Some(Token::Sign("<=")) => Ok(Operator::LessOrEqual),
            Some(Token::Sign(">")) => Ok(Operator::Greater),
            Some(Token::Sign(">=")) => Ok(Operator::GreaterOrEqual),
            token => Err(unexpected(token.as_ref(), "a comparison")),
        }
    }

    fn source(&mut self) -> Result<Source, String> {
        let table = self.name()?;
        if self.tokens.take_sign(":") { Ok(Source::Record(self.id_of(table)?)) } else { Ok(Source::Table(table)) }
    }

    fn record(&mut self) -> Result<Id, String> {
        let table = self.name()?;
        if self.tokens.take_sign(":") {
            return self.id_of(table);
        }
        Err(unexpected(self.tokens.next().as_ref(), "a record id, as in person:1"))
    }

    fn id_of(&mut self, table: String) -> Result<Id, String> {
        match self.tokens.next() {
            Some(Token::Word(id) | Token::Name(id)) if !id.is_empty() => Ok(Id { table, id }),
            Some(Token::Number(id)) if id.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(Id { table, id }),
            token => Err(unexpected(token.as_ref(), "a record id")),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.tokens.next() {
            Some(Token::Word(name) | Token::Name(name)) => Ok(name),
            token => Err(unexpected(token.as_ref(), "a name")),
        }
    }

    fn count(&mut self) -> Result<usize, String> {
        match self.tokens.next() {
            Some(Token::Number(digits)) if digits.parse::<usize>().is_ok() => Ok(digits.parse().unwrap_or_default()),
            token => Err(unexpected(token.as_ref(), "a whole number from 0 on")),
        }
    }

    fn separated<T>(&mut self, one: impl Fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let mut all = vec![one(self)?];
        while self.tokens.take_sign(",") {
            all.push(one(self)?);
        }
        Ok(all)
    }

    fn value(&mut self, depth: u32) -> Result<Value, String> {
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(format!("Parse error: values are nested more than {DEEPEST} deep"));
        };
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Value::Text(text)),
            Some(Token::Number(digits)) => number(&digits),
            Some(Token::Word(word)) => match word.to_ascii_lowercase().as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                "null" | "none" => Ok(Value::Null),
                _ => Err(unexpected(Some(&Token::Word(word)), "a value")),
            },
            Some(Token::Sign("[")) => {
                let mut values = Vec::new();
                while !self.tokens.take_sign("]") {
                    values.push(self.value(deeper)?);
                    self.comma_or("]")?;
                }
                Ok(Value::Array(values))
            }
            Some(Token::Sign("{")) => {
                let mut fields = Fields::new();
                while !self.tokens.take_sign("}") {
                    let name = match self.tokens.next() {
                        Some(Token::Word(name) | Token::Name(name) | Token::Text(name)) => name,
                        token => return Err(unexpected(token.as_ref(), "the name of a field")),
                    };
                    if !self.tokens.take_sign(":") {
                        return Err(unexpected(self.tokens.next().as_ref(), "`:`"));
                    }
                    fields.insert(name, self.value(deeper)?);
                    self.comma_or("}")?;
                }
                Ok(Value::Map(fields))
            }
            token => Err(unexpected(token.as_ref(), "a value")),
        }
    }

    /// After an entry: a comma, or the end, which is left for the loop to see.
    fn comma_or(&mut self, end: &'static str) -> Result<(), String> {
        if self.tokens.take_sign(",") || self.tokens.peek() == Some(&Token::Sign(end)) {
            return Ok(());
        }
        Err(unexpected(self.tokens.next().as_ref(), &format!("`,` or `{end}`")))
    }

    fn expect_word(&mut self, word: &str) -> Result<(), String> {
        if self.tokens.take_word(word) { Ok(()) } else { Err(unexpected(self.tokens.next().as_ref(), word)) }
    }
}

fn number(digits: &str) -> Result<Value, String> {
    if let Ok(number) = digits.parse() {
        return Ok(Value::Integer(number));
    }
    let number = digits.parse().ok().filter(|number: &f64| number.is_finite());
    number.map(Value::Double).ok_or_else(|| format!("Parse error: {digits} is no number that can be kept"))
}
