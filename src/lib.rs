//! corelane
pub mod http;
pub mod json;
pub mod ring;
pub mod schema;
