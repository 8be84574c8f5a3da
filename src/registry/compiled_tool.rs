//! What is compiled of a tool, once for all its copies and all shards.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{header_params::HeaderParam, list::Items, registered::RegisteredTool};
use crate::{
    config::{Limits, SchemaLimits},
    schema::CompiledSchema,
};

/// The limits that a compiled tool depends on.
#[derive(PartialEq, Eq)]
pub(super) struct ToolLimits {
    schema: SchemaLimits,
    call_deadline: Duration,
}

impl ToolLimits {
    pub(super) fn of(limits: &Limits) -> Self {
        Self { schema: limits.schema(), call_deadline: limits.call_deadline }
    }
}

/// What is compiled of a tool, shared by its copies and by all shards.
pub(super) struct CompiledTool {
    pub(super) limits: ToolLimits,
    pub(super) input: CompiledSchema,
    pub(super) output: Option<CompiledSchema>,
    pub(super) header_params: Vec<HeaderParam>,
    pub(super) items: Items,
    /// As the shards last ran it, by shard: most tools stay as they are when a registry changes.
    pub(super) registered: Mutex<Vec<Option<Arc<RegisteredTool>>>>,
}

/// What has been compiled of a tool with the limits last used.
#[derive(Default)]
pub(super) struct CompiledOnce(pub(super) Mutex<Option<Arc<CompiledTool>>>);
