//! Requests that change the state of a session or connection: subscriptions, log levels and cancellations.

use super::{Dispatcher, Disposition, JsonLinesClient, Source};
use crate::{
    call::Revision,
    http1::Status,
    jsonrpc::{Id, OwnedId, has_value_of, write_id, write_result},
    mcp::{self, ErrorKind, RpcMethod, Session, SessionAction, SubscriptionRequest, Topic},
    mesh::Request,
    peer::PeerKey,
    registry::List,
    session::{Subscriber, SubscriberKey, SubscriptionLimit, Usage},
};

pub(super) const TOO_MANY_SUBSCRIPTIONS: &str = "Too many subscriptions";
pub(super) const TOO_MANY_BYTES: &str =
    "The URIs and task ids of the subscriptions have more bytes than limits.subscriber_bytes_max";

impl Dispatcher {
    /// Opens a `subscriptions/listen` stream
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>).
    pub(super) fn listen(
        &mut self,
        request: SubscriptionRequest,
        source: &mut Source<'_>,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let SubscriptionRequest { id, topics, acknowledged } = request;
        if let Source::Http { headers, .. } = source
            && !headers.head.http_1_0
            && !headers.head.accepts_events(headers.bytes)
        {
            return Disposition::NotAcceptable;
        }
        // An HTTP connection has one subscription; a newline-delimited one can have many, including some without topics.
        let listens = if let Source::JsonLines { client, .. } = source { client.listens.len() } else { 0 };
        let used = self.usage_of(source).with(&topics);
        let checked = if listens >= self.limits.subscriptions_per_connection_max {
            Err(SubscriptionLimit::ClientTopics)
        } else {
            used.check(&self.limits)
                .and_then(|()| self.state.subscriptions.check_room(PeerKey::new(source.peer()), &topics))
        };
        if let Err(limit) = checked {
            return self.reject_subscription(
                id.as_id(),
                Revision::V2026_07_28,
                RpcMethod::Listen,
                limit,
                out,
            );
        }
        let key = match source {
            Source::Http { socket, .. } => Subscriber::Stream(*socket),
            Source::JsonLines { client, .. } => Subscriber::JsonLines(client.socket),
        };
        let peer = PeerKey::new(source.peer());
        let subscriber = self.state.subscriptions.insert(key, peer, Some(id_as_json(id.as_id())));
        for topic in topics {
            self.state.subscriptions.subscribe(subscriber, topic);
        }
        if let Source::JsonLines { client, .. } = source {
            client.listens.push(subscriber);
        } else {
            self.observer.metrics().note(RpcMethod::Listen as usize);
        }
        out.extend_from_slice(&acknowledged);
        Disposition::Listening(subscriber)
    }

    fn reject_subscription(
        &mut self,
        id: Id<'_>,
        revision: Revision,
        method: RpcMethod,
        limit: SubscriptionLimit,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let (reason, text) = match limit {
            SubscriptionLimit::ClientTopics | SubscriptionLimit::Shard => {
                (ErrorKind::TooManySubscriptions, TOO_MANY_SUBSCRIPTIONS)
            }
            SubscriptionLimit::PeerShare => (ErrorKind::PeerShare, TOO_MANY_SUBSCRIPTIONS),
            SubscriptionLimit::ClientBytes => (ErrorKind::SubscriptionBytes, TOO_MANY_BYTES),
        };
        self.reject(mcp::write_rejection(out, Some(id), revision, method, reason, text))
    }

    /// The topics of all subscribers of a newline-delimited connection. An HTTP connection has no other subscriber.
    fn usage_of(&self, source: &Source<'_>) -> Usage {
        let Source::JsonLines { client, .. } = source else { return Usage::default() };
        let subscribers = client.listens.iter().chain(&client.subscriber);
        subscribers
            .fold(Usage::default(), |used, subscriber| used.plus(self.state.subscriptions.usage(*subscriber)))
    }

    /// Carries out an action on a legacy session over HTTP, on the shards that own its state.
    pub(super) fn act_for_session(
        &mut self,
        id: Id<'_>,
        session: Session,
        action: SessionAction,
        source: &Source<'_>,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let about = (Some(id.to_owned()), action.method());
        let home = session.home;
        match action {
            SessionAction::SetLevel(level) => {
                self.request_all_shards(Request::SetLevel(session, level), about, source.reply_to(), out)
            }
            SessionAction::Subscribe(uri) => {
                self.request_shard(home, Request::Subscribe(session, uri), about, source.reply_to(), out)
            }
            SessionAction::Unsubscribe(uri) => {
                self.request_shard(home, Request::Unsubscribe(session, uri), about, source.reply_to(), out)
            }
        }
    }

    /// Carries out an action on a newline-delimited connection, which has the state of a session.
    pub(super) fn act_for_connection(
        &mut self,
        id: Id<'_>,
        action: SessionAction,
        source: &mut Source<'_>,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let used = self.usage_of(source);
        let Source::JsonLines { client, .. } = source else { return Disposition::NoReply };
        let method = action.method();
        match action {
            SessionAction::SetLevel(level) => {
                if let Some(handshake) = &mut client.handshake {
                    handshake.level = Some(level);
                }
            }
            SessionAction::Subscribe(uri) => {
                let topic = Topic::resource(&uri);
                let subscriber = self.subscriber_of(client);
                let subscriptions = &mut self.state.subscriptions;
                let others = used.minus(subscriptions.usage(subscriber));
                if let Err(limit) = subscriptions.try_subscribe(subscriber, topic, others, &self.limits) {
                    return self.reject_subscription(id, Revision::LATEST_LEGACY, method, limit, out);
                }
            }
            SessionAction::Unsubscribe(uri) => {
                if let Some(subscriber) = client.subscriber {
                    self.state.subscriptions.unsubscribe(subscriber, &Topic::resource(&uri));
                }
            }
        }
        self.observer.metrics().note(method as usize);
        write_result(out, id, |_| {});
        Disposition::Replied(Status::Ok)
    }

    /// Subscribes a legacy client to changes of the lists, which the `listChanged` capabilities declare.
    pub(super) fn subscribe_to_lists(&mut self, client: &mut JsonLinesClient) {
        if client.subscriber.is_none() {
            let subscriber = self.subscriber_of(client);
            for list in List::ALL {
                self.state.subscriptions.subscribe(subscriber, Topic::list(list));
            }
        }
    }

    fn subscriber_of(&mut self, client: &mut JsonLinesClient) -> SubscriberKey {
        let (key, peer) = (Subscriber::JsonLines(client.socket), PeerKey::new(client.peer));
        *client.subscriber.get_or_insert_with(|| self.state.subscriptions.insert(key, peer, None))
    }

    /// Closes the `subscriptions/listen` requests of a newline-delimited connection that have this id.
    pub(super) fn close_listens(&mut self, client: &mut JsonLinesClient, id: &OwnedId) {
        let subscriptions = &mut self.state.subscriptions;
        client.listens.retain(|subscriber| {
            let is_named = subscriptions.id(*subscriber).is_some_and(|other| has_value_of(id.as_id(), other));
            if is_named {
                subscriptions.remove(*subscriber);
            }
            !is_named
        });
    }
}

pub(super) fn id_as_json(id: Id<'_>) -> Box<[u8]> {
    let mut json = Vec::new();
    write_id(&mut json, id);
    json.into()
}
