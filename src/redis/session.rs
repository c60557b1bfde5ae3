//! What commands leave behind on their connection, so that a return knows whether there is anything to clean.
//!
//! A list names the commands that leave nothing; whatever is not in it counts as having left something. So a command that
//! is forgotten here, or invented later, costs a needless reset and never a leak.

#[cfg(feature = "redis-cluster")]
use ::redis::cluster_routing::{Route, Slot, SlotAddr};
use ::redis::{Arg, Cmd};

/// What one command does to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    Multi,
    /// `EXEC` and `DISCARD`: both end the transaction and forget what was watched.
    EndMulti,
    Watch,
    Unwatch,
    Select,
    /// Subscriptions, tracking, reply modes, names, another user: all that only `RESET` undoes, and all that is unknown.
    Other,
    /// What not even `RESET` undoes.
    Lasting,
}

/// What the commands of a session have left behind so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traces(u8);

impl Traces {
    pub(super) const MULTI: Self = Self(1);
    pub(super) const WATCH: Self = Self(2);
    pub(super) const SELECT: Self = Self(4);
    pub(super) const OTHER: Self = Self(8);
    /// The driver's own connection was handed out.
    pub(super) const UNSEEN: Self = Self(16);

    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    pub(super) fn has(self, which: Self) -> bool {
        self.0 & which.0 != 0
    }

    /// `CLIENT NO-EVICT` and the like, which only end with the connection.
    pub(super) const LASTING: Self = Self(32);

    /// Whether there is more than commands about transactions and databases can undo.
    pub(super) fn needs_all(self) -> bool {
        self.has(Self(Self::OTHER.0 | Self::UNSEEN.0 | Self::LASTING.0))
    }

    pub(super) fn add(&mut self, which: Self) {
        self.0 |= which.0;
    }

    fn remove(&mut self, which: Self) {
        self.0 &= !which.0;
    }

    /// What is there whether the command succeeds or not.
    fn begin(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing | Effect::EndMulti | Effect::Unwatch => {}
            Effect::Multi => self.add(Self::MULTI),
            Effect::Watch => self.add(Self::WATCH),
            Effect::Select => self.add(Self::SELECT),
            Effect::Other => self.add(Self::OTHER),
            Effect::Lasting => self.add(Self::LASTING),
        }
    }

    /// What is there no longer once the command has succeeded.
    fn end(&mut self, effect: Effect) {
        match effect {
            Effect::EndMulti => {
                self.remove(Self::MULTI);
                self.remove(Self::WATCH);
            }
            // Inside of `MULTI` it is only queued, and does nothing when it is run.
            Effect::Unwatch if !self.has(Self::MULTI) => self.remove(Self::WATCH),
            _ => {}
        }
    }
}

/// What there is to know of a request before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forecast {
    /// Whatever happens.
    pub(super) at_worst: Traces,
    /// When every reply has come and none is an error.
    pub(super) at_best: Traces,
    /// How many requests there are, if that is known: as many replies must come.
    pub(super) requests: Option<usize>,
}

impl Forecast {
    /// Of a command of the driver's.
    pub(super) fn of(before: Traces, command: &Cmd) -> Self {
        if command.is_no_response() {
            // That is the user's word, and a reply that comes in spite of it would be read by the next.
            return Self::unknown(before);
        }
        let words = command.args_iter().map(|word| match word {
            Arg::Simple(word) => Some(word),
            _ => None,
        });
        Self::of_command(before, words)
    }

    fn unknown(mut before: Traces) -> Self {
        before.add(Traces::OTHER);
        Self { at_worst: before, at_best: before, requests: None }
    }

    /// Of one command, by its words; an argument that is not known yet is none.
    fn of_command<'a>(before: Traces, mut words: impl Iterator<Item = Option<&'a [u8]>>) -> Self {
        let Some(name) = words.next().flatten() else { return Self::unknown(before) };
        let mut forecast = Self { at_worst: before, at_best: before, requests: Some(1) };
        forecast.add(effect(name, words.next().flatten()));
        forecast
    }

    /// Of requests as they go over the wire: arrays of bulk strings, one after the other.
    pub(super) fn of_packed(before: Traces, packed: &[u8]) -> Self {
        let mut forecast = Self { at_worst: before, at_best: before, requests: None };
        let mut rest = packed;
        let mut requests = 0;
        while !rest.is_empty() {
            let Some(request) = Request::first_of(rest) else { return Self::unknown(before) };
            forecast.add(effect(request.name, request.next));
            rest = request.after;
            requests += 1;
        }
        forecast.requests = Some(requests);
        forecast
    }

    fn add(&mut self, effect: Effect) {
        self.at_worst.begin(effect);
        self.at_best.begin(effect);
        self.at_best.end(effect);
    }
}

/// Whether a command leaves something behind on the one node of a cluster that it goes to. This is the other way round than
/// above: there nothing can be undone, and to open a connection to each node again for every command that is not known to be
/// harmless (those of modules, `CONFIG`, `COMMAND`) costs more than it saves. None of those is known to leave something.
#[cfg(feature = "redis-cluster")]
pub(super) fn stays_on_a_node(name: &[u8], next: Option<&[u8]>) -> bool {
    const HARMFUL: [&str; 24] = [
        "ASKING",
        "AUTH",
        "CLIENT",
        "DISCARD",
        "EXEC",
        "HELLO",
        "MONITOR",
        "MULTI",
        "PSUBSCRIBE",
        "PSYNC",
        "PUNSUBSCRIBE",
        "QUIT",
        "READONLY",
        "READWRITE",
        "REPLCONF",
        "RESET",
        "SELECT",
        "SSUBSCRIBE",
        "SUBSCRIBE",
        "SUNSUBSCRIBE",
        "SYNC",
        "UNSUBSCRIBE",
        "UNWATCH",
        "WATCH",
    ];
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let debugs = || next.is_some_and(|next| next.eq_ignore_ascii_case(b"DEBUG"));
    name.is_empty() || HARMFUL.into_iter().any(is) || (is("SCRIPT") && debugs())
}

/// Commands that change something, and that the driver does not take in a pipeline: where they go, or nothing if any node will
/// do.
#[cfg(feature = "redis-cluster")]
pub(super) fn not_for_pipelines(command: &Cmd) -> Option<Option<Route>> {
    const BY_KEY: [&str; 15] = [
        "BRPOPLPUSH",
        "MOVE",
        "MSETEX",
        "MSETNX",
        "RENAME",
        "RENAMENX",
        "RPOPLPUSH",
        "SDIFFSTORE",
        "SINTERSTORE",
        "SMOVE",
        "SORT",
        "SUNIONSTORE",
        "BITOP",
        "PUBLISH",
        "MSET",
    ];
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        _ => &[],
    });
    let name = words.next()?;
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if !BY_KEY.into_iter().any(is) {
        return None;
    }
    if is("PUBLISH") {
        return Some(None);
    }
    if is("MSET") {
        let mut slots = words.step_by(2).map(Slot::for_key);
        let first = slots.next()?;
        // Where there are several the driver splits it up, and tries no part again.
        return slots.all(|slot| slot == first).then_some(Some(Route::with_slot(first, SlotAddr::Master)));
    }
    // `BITOP operation destination …`; `MSETEX count key …`; of the others the key comes first.
    let key = words.nth(usize::from(is("BITOP") || is("MSETEX")))?;
    Some(Some(Route::with_key(key, SlotAddr::Master)))
}

/// The one command that these bytes are.
#[cfg(feature = "redis-cluster")]
pub(super) fn unpack(packed: &[u8]) -> Option<Cmd> {
    let mut command = Cmd::new();
    let (count, mut rest) = split_number(packed, b'*')?;
    for _ in 0..count {
        let (length, after) = split_number(rest, b'$')?;
        command.arg(after.get(..length)?);
        rest = after.get(length..)?.strip_prefix(b"\r\n")?;
    }
    (count > 0 && rest.is_empty()).then_some(command)
}

/// A request as it goes over the wire.
struct Request<'a> {
    name: &'a [u8],
    /// Its second word.
    next: Option<&'a [u8]>,
    /// What comes after it.
    after: &'a [u8],
}

impl<'a> Request<'a> {
    fn first_of(packed: &'a [u8]) -> Option<Self> {
        let (count, mut rest) = split_number(packed, b'*')?;
        let (mut name, mut next) = (None, None);
        for nth in 0..count {
            let (length, after) = split_number(rest, b'$')?;
            let word = after.get(..length);
            rest = after.get(length..)?.strip_prefix(b"\r\n")?;
            match nth {
                0 => name = word,
                1 => next = word,
                _ => {}
            }
        }
        Some(Self { name: name?, next, after: rest })
    }
}

/// The number between a sign and the end of the line.
fn split_number(text: &[u8], sign: u8) -> Option<(usize, &[u8])> {
    let text = text.strip_prefix(&[sign])?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()?;
    Some((number, text.get(digits..)?.strip_prefix(b"\r\n")?))
}

/// Subcommands of `CLIENT` whose effect `RESET` leaves as it is.
const LASTING: [&[u8]; 3] = [b"NO-EVICT", b"NO-TOUCH", b"SETINFO"];

fn effect(name: &[u8], next: Option<&[u8]>) -> Effect {
    // On the stack and in upper case, as the list is.
    let mut upper = [0; LONGEST];
    let Some(upper) = upper.get_mut(..name.len()) else { return Effect::Other };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    match &*upper {
        b"MULTI" => Effect::Multi,
        b"EXEC" | b"DISCARD" => Effect::EndMulti,
        b"WATCH" => Effect::Watch,
        b"UNWATCH" => Effect::Unwatch,
        b"SELECT" => Effect::Select,
        b"CLIENT" if next.is_some_and(|next| LASTING.into_iter().any(|what| next.eq_ignore_ascii_case(what))) => {
            Effect::Lasting
        }
        // Its relative `SCRIPT DEBUG` leaves something.
        b"SCRIPT" if next.is_some_and(|next| next.eq_ignore_ascii_case(b"LOAD")) => Effect::Nothing,
        name => {
            HARMLESS.binary_search_by(|probe| probe.as_bytes().cmp(name)).map_or(Effect::Other, |_| Effect::Nothing)
        }
    }
}

/// Longer than any name in the list.
const LONGEST: usize = 20;

/// Commands over keys and questions to the server, in alphabetical order. Scripts are among them, because a script runs in
/// a session of its own: `SELECT` inside of it ends with it, and it may not call what would change its caller's.
#[rustfmt::skip] // one name a line would be two hundred lines
const HARMLESS: [&str; 203] = [
    "APPEND", "BITCOUNT", "BITFIELD", "BITFIELD_RO", "BITOP", "BITPOS", "BLMOVE", "BLMPOP", "BLPOP", "BRPOP",
    "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "COPY", "DBSIZE", "DECR", "DECRBY", "DEL", "DUMP", "ECHO",
    "EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "EXISTS", "EXPIRE", "EXPIREAT", "EXPIRETIME", "FCALL", "FCALL_RO",
    "FLUSHALL", "FLUSHDB", "GEOADD", "GEODIST", "GEOHASH", "GEOPOS", "GEORADIUS", "GEORADIUSBYMEMBER",
    "GEORADIUSBYMEMBER_RO", "GEORADIUS_RO", "GEOSEARCH", "GEOSEARCHSTORE", "GET", "GETBIT", "GETDEL", "GETEX",
    "GETRANGE", "GETSET", "HDEL", "HEXISTS", "HEXPIRE", "HEXPIREAT", "HEXPIRETIME", "HGET", "HGETALL", "HGETDEL",
    "HGETEX", "HINCRBY", "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET", "HMSET", "HPERSIST", "HPEXPIRE", "HPEXPIREAT",
    "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSCAN", "HSET", "HSETEX", "HSETNX", "HSTRLEN", "HTTL", "HVALS", "INCR",
    "INCRBY", "INCRBYFLOAT", "INFO", "KEYS", "LASTSAVE", "LCS", "LINDEX", "LINSERT", "LLEN", "LMOVE", "LMPOP",
    "LPOP", "LPOS", "LPUSH", "LPUSHX", "LRANGE", "LREM", "LSET", "LTRIM", "MEMORY", "MGET", "MSET", "MSETNX",
    "OBJECT", "PERSIST", "PEXPIRE", "PEXPIREAT", "PEXPIRETIME", "PFADD", "PFCOUNT", "PFMERGE", "PING", "PSETEX",
    "PTTL", "PUBLISH", "PUBSUB", "RANDOMKEY", "RENAME", "RENAMENX", "RESTORE", "ROLE", "RPOP", "RPOPLPUSH", "RPUSH",
    "RPUSHX", "SADD", "SCAN", "SCARD", "SDIFF", "SDIFFSTORE", "SET", "SETBIT", "SETEX", "SETNX", "SETRANGE",
    "SINTER", "SINTERCARD", "SINTERSTORE", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "SMOVE", "SORT", "SORT_RO",
    "SPOP", "SPUBLISH", "SRANDMEMBER", "SREM", "SSCAN", "STRLEN", "SUNION", "SUNIONSTORE", "TIME", "TOUCH", "TTL",
    "TYPE", "UNLINK", "WAIT", "XACK", "XADD", "XAUTOCLAIM", "XCLAIM", "XDEL", "XGROUP", "XINFO", "XLEN", "XPENDING",
    "XRANGE", "XREAD", "XREADGROUP", "XREVRANGE", "XSETID", "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZDIFF",
    "ZDIFFSTORE", "ZINCRBY", "ZINTER", "ZINTERCARD", "ZINTERSTORE", "ZLEXCOUNT", "ZMPOP", "ZMSCORE", "ZPOPMAX",
    "ZPOPMIN", "ZRANDMEMBER", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE", "ZRANGESTORE", "ZRANK", "ZREM",
    "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREVRANGE", "ZREVRANGEBYLEX", "ZREVRANGEBYSCORE",
    "ZREVRANK", "ZSCAN", "ZSCORE", "ZUNION", "ZUNIONSTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(commands: &[&[&str]]) -> Vec<u8> {
        let mut text = String::new();
        for words in commands {
            text += &format!("*{}\r\n", words.len());
            words.iter().for_each(|word| text += &format!("${}\r\n{word}\r\n", word.len()));
        }
        text.into_bytes()
    }

    fn alone(name: &[u8]) -> Forecast {
        Forecast::of_command(Traces::default(), [Some(name)].into_iter())
    }

    fn both(commands: &[&[&str]]) -> (Traces, Traces) {
        let forecast = Forecast::of_packed(Traces::default(), &packed(commands));
        (forecast.at_worst, forecast.at_best)
    }

    #[test]
    fn the_list_is_in_order_and_fits_on_the_stack() {
        assert!(HARMLESS.is_sorted());
        assert!(HARMLESS.iter().all(|name| name.len() <= LONGEST && name.to_ascii_uppercase() == **name));
    }

    #[test]
    fn what_is_not_known_to_be_harmless_leaves_something() {
        for name in ["get", "GET", "Set", "evalsha", "PING", "XREADGROUP"] {
            assert!(!alone(name.as_bytes()).at_worst.any(), "{name}");
        }
        for name in ["CLIENT", "subscribe", "MONITOR", "HELLO", "AUTH", "RESET", "READONLY", "NEW.COMMAND", "", "é"] {
            assert!(alone(name.as_bytes()).at_best.has(Traces::OTHER), "{name}");
        }
        assert!(alone(&[b'G'; 100]).at_best.has(Traces::OTHER));
    }

    #[test]
    fn a_transaction_that_ended_leaves_nothing_unless_a_reply_is_missing() {
        let clean = Traces::default();
        assert_eq!(both(&[&["MULTI"], &["SET", "k", "MULTI"], &["EXEC"]]), (Traces::MULTI, clean));
        assert_eq!(both(&[&["WATCH", "k"], &["MULTI"], &["EXEC"]]), (Traces(3), clean));
        assert_eq!(both(&[&["MULTI"], &["UNWATCH"]]), (Traces::MULTI, Traces::MULTI));
        assert_eq!(both(&[&["WATCH", "k"], &["UNWATCH"]]), (Traces::WATCH, clean));
        assert_eq!(both(&[&["WATCH", "k"], &["MULTI"], &["UNWATCH"]]), (Traces(3), Traces(3)));
        assert_eq!(both(&[&["SELECT", "5"], &["MULTI"], &["EXEC"]]), (Traces(5), Traces::SELECT));
        assert_eq!(both(&[&["GET", "k"], &["GET", "SELECT"]]), (clean, clean));
        assert_eq!(both(&[&["SCRIPT", "load", "return 1"]]), (clean, clean));
        assert_eq!(both(&[&["SCRIPT", "DEBUG", "LOAD"]]), (Traces::OTHER, Traces::OTHER));
        assert_eq!(both(&[&["client", "no-evict", "on"]]), (Traces::LASTING, Traces::LASTING));
        let other = Forecast::of_packed(Traces::WATCH, &packed(&[&["CLIENT", "REPLY", "OFF"]]));
        assert_eq!((other.at_worst, other.at_best), (Traces(10), Traces(10)));
    }

    #[test]
    fn requests_are_counted_where_they_can_be_told_apart() {
        let of = |packed: &[u8]| Forecast::of_packed(Traces::default(), packed).requests;
        assert_eq!(of(&packed(&[&["GET", "k"], &["NEW.COMMAND"], &["GET", "*3\r\n"]])), Some(3));
        assert_eq!(of(b"PING\r\n"), None);
    }

    #[test]
    fn bytes_that_are_no_requests_count_as_unknown() {
        for text in
            ["PING\r\n", "*1\r\n$4\r\nPI", "*0\r\n", "*1\r\n$9999999999999999999999\r\n", "*1\r\n$4\r\nPING", "*"]
        {
            assert_eq!(Forecast::of_packed(Traces::default(), text.as_bytes()).at_best, Traces::OTHER, "{text:?}");
        }
    }
}
