//! How what the crate tells is written where it leaves the program: times in seconds, as OpenTelemetry counts them.

#[cfg(feature = "json")]
use serde::Serialize;
use serde::Serializer;
use std::time::{Duration, SystemTime};

pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Since 1970; a time before that is 1970.
pub(crate) fn epoch_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The same, of a field.
pub(crate) fn in_epoch_seconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(epoch_seconds(*time))
}

#[cfg(feature = "json")]
pub(crate) fn json(told: &impl Serialize) -> String {
    serde_json::to_string(told).expect("text and numbers, and no map whose keys are not text")
}
