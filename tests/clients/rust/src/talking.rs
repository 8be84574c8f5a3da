//! A session with examples/talking: every SDK method other than tool calls.

// Logging, sampling and roots are deprecated and still in use.
#![allow(deprecated)]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    ClientHandler, ErrorData, ServiceError,
    model::{
        CallToolRequest, ClientCapabilities, ClientConfig, ClientRequest, CompletionContext,
        CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
        ElicitationAction, ElicitationCapability, FormElicitationCapability, GetPromptRequestParams,
        Implementation, ListRootsResult, LoggingLevel, LoggingMessageNotificationParam,
        PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams, RequestMetaObject,
        ResourceUpdatedNotificationParam, Root, RootsCapabilities, SamplingCapability, SamplingMessage,
        ServerNotification, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
        UnsubscribeRequestParams,
    },
    service::{NotificationContext, PeerRequestOptions, RequestContext, RoleClient, Subscription},
};
use serde_json::{Value, json};
use tokio::{
    sync::{
        Mutex as AsyncMutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::timeout,
};

use crate::{
    Session,
    check::{Checked, call_of, check, text_of},
};

const PAGE: &str = "book://page";
const WAIT: Duration = Duration::from_secs(10);

/// Progress, total and message.
type Progress = (f64, Option<f64>, Option<String>);

/// Answers the requests of the server, and records its notifications.
#[derive(Clone)]
pub(crate) struct Talker {
    declines: Arc<Mutex<bool>>,
    logged: Arc<Mutex<Vec<String>>>,
    progress: Arc<Mutex<Vec<Progress>>>,
    sender: UnboundedSender<String>,
    notifications: Arc<AsyncMutex<UnboundedReceiver<String>>>,
}

impl Default for Talker {
    fn default() -> Self {
        let (sender, notifications) = unbounded_channel();
        Self {
            declines: Arc::default(),
            logged: Arc::default(),
            progress: Arc::default(),
            sender,
            notifications: Arc::new(AsyncMutex::new(notifications)),
        }
    }
}

fn locked<T: Clone>(mutex: &Mutex<T>) -> T {
    mutex.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn change<T>(mutex: &Mutex<T>, change: impl FnOnce(&mut T)) {
    change(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner));
}

impl ClientHandler for Talker {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.roots = Some(RootsCapabilities::default());
        capabilities.sampling = Some(SamplingCapability::default());
        let form = ElicitationCapability::new().with_form(FormElicitationCapability::default());
        capabilities.elicitation = Some(form);
        ClientConfig::new(capabilities, Implementation::new("corelane-client-check", "1.0.0"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        match request {
            ElicitRequestParams::FormElicitationParams { message, .. } if message == "What is your name?" => {
            }
            other => return Err(ErrorData::invalid_params(format!("unexpected {other:?}"), None)),
        }
        Ok(if locked(&self.declines) {
            ElicitResult::new(ElicitationAction::Decline)
        } else {
            ElicitResult::new(ElicitationAction::Accept).with_content(json!({"name": "Ann"}))
        })
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let message = serde_json::to_value(params.messages.first()).unwrap_or_default();
        let content = message.pointer("/content/text").or(message.pointer("/content/0/text"));
        let text = format!("{} Yes.", content.and_then(Value::as_str).unwrap_or_default());
        let answer = CreateMessageResult::new(SamplingMessage::assistant_text(text), "parrot".to_owned());
        Ok(answer.with_stop_reason(CreateMessageResult::STOP_REASON_END_TURN))
    }

    async fn list_roots(&self, _context: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///a"), Root::new("file:///b")]))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        change(&self.progress, |progress| progress.push((params.progress, params.total, params.message)));
        let _ = self.sender.send("progress".to_owned());
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let level = serde_json::to_value(params.level).unwrap_or_default();
        let texts = [level.as_str(), params.logger.as_deref(), params.data.as_str()];
        change(&self.logged, |logged| logged.push(texts.map(Option::unwrap_or_default).join(" ")));
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let _ = self.sender.send(params.uri);
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        let _ = self.sender.send("tools".to_owned());
    }
}

/// The source of update notifications.
enum Changes<'a> {
    /// The handler, in the legacy era.
    Handler(&'a Talker),
    /// A subscription stream.
    Stream(Box<Subscription>),
}

impl Changes<'_> {
    async fn next(&mut self) -> Checked<String> {
        match self {
            Self::Handler(talker) => talker.next().await,
            Self::Stream(subscription) => match timeout(WAIT, subscription.next()).await?? {
                Some(ServerNotification::ResourceUpdatedNotification(updated)) => Ok(updated.params.uri),
                Some(ServerNotification::ToolListChangedNotification(_)) => Ok("tools".to_owned()),
                other => Err(format!("expected a change, got {other:?}").into()),
            },
        }
    }
}

impl Talker {
    /// The next notification other than progress.
    async fn next(&self) -> Checked<String> {
        let mut notifications = self.notifications.lock().await;
        loop {
            let next = timeout(WAIT, notifications.recv()).await?.ok_or("no notification")?;
            if next != "progress" {
                return Ok(next);
            }
        }
    }

    async fn discard_pending(&self) {
        let mut notifications = self.notifications.lock().await;
        while notifications.try_recv().is_ok() {}
    }
}

/// The code of the JSON-RPC error of a request.
fn code_of<T: std::fmt::Debug>(outcome: Result<T, ServiceError>) -> Checked<i32> {
    match outcome {
        Err(ServiceError::McpError(error)) => Ok(error.code.0),
        other => Err(format!("expected a JSON-RPC error, got {other:?}").into()),
    }
}

impl Session {
    pub(crate) async fn talking(&self) -> Checked<()> {
        let info = self.client.peer_info().ok_or("the server sent no information about itself")?;
        let instructions = info.instructions.as_deref();
        check(instructions == Some("Ask it to ask you."), "the instructions", instructions)?;
        self.pages().await?;
        self.resources().await?;
        self.prompts().await?;
        self.completion().await?;
        self.questions().await?;
        self.progress_and_log().await?;
        self.cancellation().await?;
        self.changes().await
    }

    async fn text(&self, tool: &str, arguments: Value) -> Checked<String> {
        let result = self.call(tool, arguments).await?;
        Ok(text_of(&result)?.to_owned())
    }

    async fn pages(&self) -> Checked<()> {
        let first = self.client.list_tools(None).await?;
        check(first.tools.len() == 2 && first.next_cursor.is_some(), "two on a page", &first)?;
        let tools = self.client.list_all_tools().await?;
        let mut names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        names.retain(|name| !name.starts_with("grown_"));
        names.sort_unstable();
        let expected = ["ask_model", "ask_name", "ask_roots", "count", "grow", "turn"];
        check(names == expected, "all six tools", &names)?;
        let wrong = PaginatedRequestParams::default().with_cursor(Some("no-such-cursor".to_owned()));
        let code = code_of(self.client.list_tools(Some(wrong)).await)?;
        check(code == -32602, "-32602 for a wrong cursor", code)?;
        self.step("pages");
        Ok(())
    }

    async fn read(&self, uri: &str) -> Checked<String> {
        self.client.clear_response_cache().await;
        let read = self.client.read_resource(ReadResourceRequestParams::new(uri)).await?;
        let read = serde_json::to_value(&read)?;
        let text = read.pointer("/contents/0/text").and_then(Value::as_str);
        Ok(text.ok_or_else(|| format!("a text, got {read}"))?.to_owned())
    }

    async fn resources(&self) -> Checked<()> {
        let resources = serde_json::to_value(self.client.list_all_resources().await?)?;
        check(resources.pointer("/0/uri") == Some(&json!(PAGE)), "the page", &resources)?;
        let templates = serde_json::to_value(self.client.list_all_resource_templates().await?)?;
        let template = templates.pointer("/0/uriTemplate");
        check(template == Some(&json!("book://chapter/{name}")), "the template", &templates)?;
        let page = self.read(PAGE).await?;
        check(page.starts_with("This is page "), "the page read", &page)?;
        let chapter = self.read("book://chapter/end").await?;
        check(chapter == "The chapter called end.", "the chapter read", &chapter)?;
        let missing = self.client.read_resource(ReadResourceRequestParams::new("book://nothing")).await;
        let (code, expected) = (code_of(missing)?, if self.is_legacy { -32002 } else { -32602 });
        check(code == expected, "the code for no such resource", code)?;
        self.step("resources");
        Ok(())
    }

    async fn prompts(&self) -> Checked<()> {
        let prompts = serde_json::to_value(self.client.list_all_prompts().await?)?;
        let named = (prompts.pointer("/0/name"), prompts.pointer("/0/arguments/0/required"));
        check(named == (Some(&json!("greet")), Some(&json!(true))), "the prompt", &prompts)?;
        let greet = |arguments: Value| {
            let params = GetPromptRequestParams::new("greet");
            self.client.get_prompt(match arguments {
                Value::Object(arguments) => params.with_arguments(arguments),
                _ => params,
            })
        };
        let greeting = greet(json!({"name": "Ann", "language": "Finnish"})).await?;
        let greeting = serde_json::to_value(&greeting)?;
        let text = greeting.pointer("/messages/0/content/text");
        check(text == Some(&json!("Greet Ann in Finnish.")), "the prompt filled in", &greeting)?;
        let code = code_of(greet(json!({})).await)?;
        check(code == -32602, "-32602 for a missing argument", code)?;
        self.step("prompts");
        Ok(())
    }

    async fn completion(&self) -> Checked<()> {
        let context = CompletionContext::with_arguments([("name".to_owned(), "Ann".to_owned())].into());
        let languages = self.client.complete_prompt_argument("greet", "language", "E", Some(context)).await?;
        check(languages.values == ["English", "Esperanto"], "completed", &languages)?;
        let chapters =
            self.client.complete_resource_argument("book://chapter/{name}", "name", "mid", None).await?;
        check(chapters.values == ["middle"], "a variable completed", &chapters)?;
        self.step("completion");
        Ok(())
    }

    async fn questions(&self) -> Checked<()> {
        let greeting = self.text("ask_name", json!({})).await?;
        check(greeting == "Hello, Ann!", "a greeting with the name", &greeting)?;
        change(&self.client.service().declines, |declines| *declines = true);
        let declined = self.text("ask_name", json!({})).await?;
        check(declined == "No name: decline", "the declined answer", &declined)?;
        self.step("elicitation");
        let sampled = self.text("ask_model", json!({"question": "Are you there?"})).await?;
        check(sampled == "parrot says: Are you there? Yes.", "the sampled text", &sampled)?;
        self.step("sampling");
        let roots = self.text("ask_roots", json!({})).await?;
        check(roots == "file:///a file:///b", "the roots", &roots)?;
        self.step("roots");
        Ok(())
    }

    /// Calls `count` with log level `info`, which 2026-07-28 sets for each request. Every request of this SDK has a progress
    /// token.
    async fn count(&self, to: u32) -> Checked<String> {
        let mut params = call_of("count", json!({"to": to}));
        if !self.is_legacy {
            let mut meta = RequestMetaObject::default();
            meta.set_log_level(LoggingLevel::Info);
            params.meta = Some(meta);
        }
        let result = self.client.call_tool(params).await?;
        Ok(text_of(&result)?.to_owned())
    }

    async fn set_level(&self, level: LoggingLevel) -> Checked<()> {
        if self.is_legacy {
            self.client.set_level(SetLevelRequestParams::new(level)).await?;
        }
        Ok(())
    }

    async fn progress_and_log(&self) -> Checked<()> {
        let talker = self.client.service();
        self.set_level(LoggingLevel::Info).await?;
        let counted = self.count(3).await?;
        check(counted == "counted to 3", "the count", &counted)?;
        let expected = [1.0, 2.0, 3.0].map(|number| (number, Some(3.0), Some("counting".to_owned())));
        let progress = locked(&talker.progress);
        check(progress == expected, "progress", &progress)?;
        self.step("progress");
        let expected = [1, 2, 3].map(|number| format!("info counter counted {number}"));
        let logged = locked(&talker.logged);
        check(logged == expected, "the log messages", &logged)?;
        if self.is_legacy {
            self.set_level(LoggingLevel::Error).await?;
            self.count(1).await?;
            check(locked(&talker.logged).len() == 3, "nothing logged below the level", ())?;
        }
        self.step("log");
        Ok(())
    }

    /// Uncancelled, the call would take a minute and delay the exit of the server, which the caller checks.
    async fn cancellation(&self) -> Checked<()> {
        let talker = self.client.service();
        talker.discard_pending().await;
        let request = CallToolRequest::new(call_of("count", json!({"to": 600})));
        let options = PeerRequestOptions::no_options();
        let request = ClientRequest::CallToolRequest(request);
        let call = self.client.send_cancellable_request(request, options).await?;
        timeout(WAIT, talker.notifications.lock().await.recv()).await?.ok_or("no progress")?;
        call.cancel(Some("enough".to_owned())).await?;
        self.step("cancellation");
        Ok(())
    }

    async fn changes(&self) -> Checked<()> {
        let talker = self.client.service();
        talker.discard_pending().await;
        let mut changes = if self.is_legacy {
            self.client.subscribe(SubscribeRequestParams::new(PAGE)).await?;
            Changes::Handler(talker)
        } else {
            let filter = SubscriptionFilter::builder().tools_list_changed().resource_subscriptions([PAGE]);
            Changes::Stream(Box::new(self.client.listen(filter.build()).await?))
        };
        let page = self.text("turn", json!({})).await?;
        let updated = changes.next().await?;
        check(updated == PAGE, "an update of the page", &updated)?;
        let turned = self.read(PAGE).await?;
        check(turned == format!("This is {page}."), "the new page", &turned)?;
        self.step("resource updated");

        let grown = self.text("grow", json!({})).await?;
        let changed = changes.next().await?;
        check(changed == "tools", "a change of the tool list", &changed)?;
        let listed = self.tools().await?.to_string();
        check(listed.contains(&grown), "the new tool", &listed)?;
        let answered = self.text(&grown, json!({})).await?;
        check(answered == "I am new here.", "the new tool answers", &answered)?;
        self.step("list changed");

        match changes {
            Changes::Handler(_) => {
                self.client.unsubscribe(UnsubscribeRequestParams::new(PAGE)).await?;
            }
            Changes::Stream(mut subscription) => subscription.cancel().await?,
        }
        // Over HTTP the server detects the closed stream asynchronously.
        self.count(2).await?;
        talker.discard_pending().await;
        self.text("turn", json!({})).await?;
        self.count(2).await?;
        let mut notifications = talker.notifications.lock().await;
        while let Ok(notification) = notifications.try_recv() {
            check(notification == "progress", "no notification after unsubscribing", notification.clone())?;
        }
        self.step("unsubscribe");
        Ok(())
    }
}
