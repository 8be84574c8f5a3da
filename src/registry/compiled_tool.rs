//! The compiled form of a tool, shared by all its clones and all shards.

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

/// The compiled form of a tool, shared by its clones and by all shards.
pub(super) struct CompiledTool {
    pub(super) limits: ToolLimits,
    pub(super) input: CompiledSchema,
    pub(super) output: Option<CompiledSchema>,
    pub(super) header_params: Vec<HeaderParam>,
    pub(super) items: Items,
    /// The tool as last compiled for each shard, by shard: most tools do not change when a registry does.
    pub(super) registered: Mutex<Vec<Option<Arc<RegisteredTool>>>>,
}

/// Cache of the compiled form of a tool, for the limits last used.
#[derive(Default)]
pub(super) struct CompiledOnce(pub(super) Mutex<Option<Arc<CompiledTool>>>);
