//! Words, names, texts, numbers and signs.

use std::collections::VecDeque;
use std::fmt;
use std::str::Chars;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, or a word of the language.
    Word(String),
    /// A name in `⟨⟩` or backticks, which is never a word of the language.
    Name(String),
    Text(String),
    Number(String),
    Sign(&'static str),
}

/// Longer ones first, or `<=` would be read as `<`.
const SIGNS: [&str; 15] = ["!=", "<=", ">=", "==", "&&", "=", "<", ">", "*", ",", ":", "{", "}", "[", "]"];

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) | Self::Number(word) => write!(f, "`{word}`"),
            Self::Name(name) => write!(f, "`⟨{name}⟩`"),
            // What is between quotes are somebody's data, and no part of the grammar.
            Self::Text(_) => f.write_str("a text"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
        }
    }
}

/// Splits at semicolons that stand outside of texts and names; drops what is empty.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let (mut statements, mut begin, mut closing, mut escaped) = (Vec::new(), 0, None, false);
    for (at, letter) in text.char_indices() {
        match (closing, letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(mark), _) if mark == letter => closing = None,
            (None, _) if closing_of(letter).is_some() => closing = closing_of(letter),
            (None, ';') => {
                statements.push(text.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    statements.push(text.get(begin..).unwrap_or_default());
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}

fn closing_of(opening: char) -> Option<char> {
    match opening {
        '\'' | '"' | '`' => Some(opening),
        '⟨' => Some('⟩'),
        _ => None,
    }
}

pub(super) struct Tokens(VecDeque<Token>);

impl Tokens {
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let mut tokens = VecDeque::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let (token, after) = one(first, rest)?;
            tokens.push_back(token);
            rest = after.trim_start();
        }
        Ok(Self(tokens))
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        self.0.pop_front()
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.0.front()
    }

    /// Whether this word of the language comes next; then it is gone.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        self.0.pop_front_if(|token| matches!(token, Token::Word(its) if its.eq_ignore_ascii_case(word))).is_some()
    }

    pub(super) fn take_sign(&mut self, sign: &'static str) -> bool {
        self.0.pop_front_if(|token| *token == Token::Sign(sign)).is_some()
    }
}

fn one(first: char, rest: &str) -> Result<(Token, &str), String> {
    if let Some(closing) = closing_of(first) {
        let mut letters = rest.chars();
        letters.next();
        let inside = quoted(&mut letters, closing)?;
        let token = if matches!(first, '\'' | '"') { Token::Text(inside) } else { Token::Name(inside) };
        return Ok((token, letters.as_str()));
    }
    if let Some((sign, after)) = SIGNS.into_iter().find_map(|sign| Some((sign, rest.strip_prefix(sign)?))) {
        return Ok((Token::Sign(sign), after));
    }
    let number = first.is_ascii_digit() || matches!(first, '-' | '+');
    let mut before = ' ';
    let belongs = |letter: char| {
        // `1.5e-7` is one number, and `9lives` is one word.
        let part = letter.is_ascii_alphanumeric()
            || letter == '_'
            || number && (letter == '.' || matches!(letter, '+' | '-') && matches!(before, ' ' | 'e' | 'E'));
        before = letter;
        part
    };
    let length = rest.find(negated(belongs)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(length);
    if word.is_empty() {
        return Err(format!("Parse error: unexpected `{first}`"));
    }
    let token = if number && word.parse::<f64>().is_ok() { Token::Number } else { Token::Word };
    match token(word.to_owned()) {
        Token::Word(word) if word.contains(['.', '+', '-']) => Err(format!("Parse error: unexpected `{word}`")),
        token => Ok((token, after)),
    }
}

fn negated(mut belongs: impl FnMut(char) -> bool) -> impl FnMut(char) -> bool {
    move |letter| !belongs(letter)
}

/// The text up to the mark that closes it, with the escapes of JSON resolved.
fn quoted(letters: &mut Chars<'_>, closing: char) -> Result<String, String> {
    let unclosed = || format!("Parse error: nothing closes a text or name: `{closing}` is missing");
    let mut text = String::new();
    loop {
        match letters.next().ok_or_else(unclosed)? {
            letter if letter == closing => return Ok(text),
            '\\' => match letters.next().ok_or_else(unclosed)? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'u' => text.push(unicode(letters)?),
                letter => text.push(letter),
            },
            letter => text.push(letter),
        }
    }
}

/// The character of `\uXXXX`, or of two of them that make one character together.
fn unicode(letters: &mut Chars<'_>) -> Result<char, String> {
    let first = hex(letters)?;
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first) && letters.as_str().starts_with("\\u") {
        letters.next();
        letters.next();
        units.push(hex(letters)?);
    }
    let mut decoded = char::decode_utf16(units);
    match (decoded.next(), decoded.next()) {
        (Some(Ok(letter)), None) => Ok(letter),
        _ => Err(format!("Parse error: \\u{first:04x} is no character")),
    }
}

fn hex(letters: &mut Chars<'_>) -> Result<u16, String> {
    let digits: String = letters.by_ref().take(4).collect();
    let number = Some(&digits).filter(|digits| digits.len() == 4 && digits.bytes().all(|it| it.is_ascii_hexdigit()));
    let number = number.and_then(|digits| u16::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| "Parse error: \\u needs four hexadecimal digits".to_owned())
}
