//! Logging in, and choosing the database.
//!
//! The driver does so itself, but waits for each of its replies as long as the whole may take, and says of a refused login only
//! that it was refused. So it is left to do what only it can do, which is to switch to RESP3.

use ::redis::{Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, Value};

/// How this pool shows in `CLIENT LIST` unless the application has a name of its own.
const LIBRARY: &str = concat!("redis-rs(millpond_v", env!("CARGO_PKG_VERSION"), ")");

/// A command of the handshake, by what follows from its refusal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    LogIn,
    Select(i64),
    /// Servers before 7.2 do not know the command.
    Name,
}

impl Step {
    pub(super) fn judge(self, reply: Value) -> RedisResult<()> {
        let (Self::LogIn | Self::Select(_), Value::ServerError(refusal)) = (self, reply) else { return Ok(()) };
        // Other codes say by themselves what is wrong, and whether it lasts: WRONGPASS, NOAUTH, LOADING …
        if refusal.code() != "ERR" {
            return Err(refusal.into());
        }
        let said = refusal.details().unwrap_or_default();
        let (what, detail) = match self {
            Self::Select(db) => ("the server refuses the database", format!("{db}: {said}")),
            _ if said.contains("max number of clients") => return Err(refusal.into()),
            _ => ("the server refuses the login", said.to_owned()),
        };
        Err(RedisError::from((ErrorKind::InvalidClientConfig, what, detail)))
    }
}

/// What the driver is to do when it connects.
pub(super) fn of_driver(settings: &RedisConnectionInfo) -> RedisConnectionInfo {
    let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
    if settings.protocol() == ProtocolVersion::RESP2 {
        return nothing;
    }
    // `HELLO` asks for the login in the same breath.
    let mut hello = nothing.set_protocol(settings.protocol());
    if let Some(password) = settings.password() {
        hello = hello.set_password(password);
    }
    if let Some(user) = settings.username() {
        hello = hello.set_username(user);
    }
    hello
}

/// What is to be done after that, and what each reply is to.
pub(super) fn commands(settings: &RedisConnectionInfo) -> (Pipeline, Vec<Step>) {
    let (mut commands, mut steps) = (::redis::pipe(), Vec::new());
    if settings.protocol() == ProtocolVersion::RESP2
        && let Some(login) = log_in(settings)
    {
        commands.add_command(login);
        steps.push(Step::LogIn);
    }
    if settings.db() != 0 {
        commands.cmd("SELECT").arg(settings.db());
        steps.push(Step::Select(settings.db()));
    }
    if !settings.skip_set_lib_name() {
        commands.cmd("CLIENT").arg("SETINFO").arg("LIB-NAME").arg(settings.lib_name().unwrap_or(LIBRARY));
        steps.push(Step::Name);
    }
    if let Some(version) = settings.lib_ver().filter(|_| !settings.skip_set_lib_name()) {
        commands.cmd("CLIENT").arg("SETINFO").arg("LIB-VER").arg(version);
        steps.push(Step::Name);
    }
    (commands, steps)
}

/// `RESET`, which leaves a connection as if nobody had logged in, and what makes it the manager's again.
pub(super) fn reset(settings: &RedisConnectionInfo) -> Pipeline {
    let mut commands = ::redis::pipe();
    commands.cmd("RESET");
    if settings.protocol() != ProtocolVersion::RESP2 {
        let hello = commands.cmd("HELLO").arg(3);
        if let Some(password) = settings.password() {
            hello.arg("AUTH").arg(settings.username().unwrap_or("default")).arg(password);
        }
    } else if let Some(login) = log_in(settings) {
        commands.add_command(login);
    }
    if settings.db() != 0 {
        commands.cmd("SELECT").arg(settings.db());
    }
    commands
}

fn log_in(settings: &RedisConnectionInfo) -> Option<Cmd> {
    let mut login = ::redis::cmd("AUTH");
    if let Some(user) = settings.username() {
        login.arg(user);
    }
    login.arg(settings.password()?);
    Some(login)
}
