//! The methods of the protocol, and the eras of each.

use crate::{
    call::{Kind, Revision},
    registry::{List, Snapshot},
};

/// The eras in which a method exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Eras {
    Legacy,
    Modern,
    Both,
}

/// The content of the registry that a method requires. A method whose capability is not declared is not found
/// (<https://modelcontextprotocol.io/specification/2026-07-28/server/discover>).
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Resources,
    Prompts,
    Completers,
}

macro_rules! methods {
    ($($variant:ident $name:literal $eras:ident $needs:ident,)*) => {
        /// A method, as counted in metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RpcMethod {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
            /// Rejected requests, notifications, and requests that open or close a stream.
            Other,
        }

        impl RpcMethod {
            /// All methods.
            pub const ALL: [Self; [$(Self::$variant,)* Self::Other].len()] = [$(Self::$variant,)* Self::Other];

            /// The name of the method in the protocol.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "other",
                }
            }

            /// Parses the name of a method that exists in the era of `revision` and that `snapshot` offers; else [`Self::Other`].
            pub(crate) fn parse(method: &str, revision: Revision, snapshot: &Snapshot) -> Self {
                let (found, eras, needs) = match method {
                    $($name => (Self::$variant, Eras::$eras, Needs::$needs),)*
                    _ => return Self::Other,
                };
                let other = if revision.is_modern() { Eras::Legacy } else { Eras::Modern };
                let is_offered = match needs {
                    Needs::Nothing => true,
                    Needs::Resources => snapshot.offers(List::Resources),
                    Needs::Prompts => snapshot.offers(List::Prompts),
                    Needs::Completers => snapshot.completes(),
                };
                if eras != other && is_offered { found } else { Self::Other }
            }
        }
    };
}

methods! {
    ToolsCall "tools/call" Both Nothing,
    ToolsList "tools/list" Both Nothing,
    ResourcesRead "resources/read" Both Resources,
    ResourcesList "resources/list" Both Resources,
    TemplatesList "resources/templates/list" Both Resources,
    PromptsGet "prompts/get" Both Prompts,
    PromptsList "prompts/list" Both Prompts,
    Complete "completion/complete" Both Completers,
    Discover "server/discover" Modern Nothing,
    Listen "subscriptions/listen" Modern Nothing,
    TasksGet "tasks/get" Modern Nothing,
    TasksUpdate "tasks/update" Modern Nothing,
    TasksCancel "tasks/cancel" Modern Nothing,
    Initialize "initialize" Legacy Nothing,
    Ping "ping" Legacy Nothing,
    SetLevel "logging/setLevel" Legacy Nothing,
    Subscribe "resources/subscribe" Legacy Resources,
    Unsubscribe "resources/unsubscribe" Legacy Resources,
}

impl From<Kind> for RpcMethod {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tool => Self::ToolsCall,
            Kind::Prompt => Self::PromptsGet,
            Kind::Resource => Self::ResourcesRead,
            Kind::Completion => Self::Complete,
        }
    }
}
