//! r2d2's own traits and their plain implementations, not copies: managers, diesel's `TestCustomizer` and error handlers of
//! other crates implement these.

pub use ::r2d2::{
    CustomizeConnection, HandleError, LoggingErrorHandler, ManageConnection, NopConnectionCustomizer, NopErrorHandler,
};
