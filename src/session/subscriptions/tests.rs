//! Tests of the subscriptions.

use proptest::prelude::*;

use super::*;

fn table(subscriptions_max: usize, subscription_bytes_max: usize) -> Subscriptions<u32> {
    let limits = Limits { subscriptions_max, subscription_bytes_max, ..Limits::default() };
    Subscriptions::new(&Limits { peer_share_percent: 100, ..limits })
}

fn receivers(subscriptions: &mut Subscriptions<u32>, uri: &str) -> Vec<u32> {
    let mut receivers = Vec::new();
    subscriptions.publish(&Arc::new(Event::resource_updated(uri)), |key, _| {
        receivers.push(key);
        true
    });
    receivers.sort_unstable();
    receivers
}

#[test]
fn subscriber_receives_events_of_its_topics_only() {
    let mut subscriptions = table(10, 1000);
    let one = subscriptions.insert(1, PeerKey::default(), None);
    let two = subscriptions.insert(2, PeerKey::default(), None);
    subscriptions.subscribe(one, Topic::resource("a"));
    subscriptions.subscribe(one, Topic::resource("b"));
    subscriptions.subscribe(two, Topic::resource("b"));
    assert_eq!(receivers(&mut subscriptions, "a"), [1]);
    assert_eq!(receivers(&mut subscriptions, "b"), [1, 2]);
    assert!(receivers(&mut subscriptions, "c").is_empty());
    subscriptions.unsubscribe(one, &Topic::resource("a"));
    assert!(receivers(&mut subscriptions, "a").is_empty());
    subscriptions.remove(one);
    assert_eq!(receivers(&mut subscriptions, "b"), [2]);
    assert_eq!(subscriptions.subscribed(), 1);
}

#[test]
fn busy_subscriber_receives_the_newest_event_of_each_topic_once() {
    let mut subscriptions = table(10, 1000);
    let one = subscriptions.insert(1, PeerKey::default(), Some((*b"7").into()));
    subscriptions.subscribe(one, Topic::resource("a"));
    subscriptions.subscribe(one, Topic::resource("b"));
    for _ in 0..3 {
        subscriptions.publish(&Arc::new(Event::resource_updated("a")), |_, _| false);
    }
    subscriptions.publish(&Arc::new(Event::resource_updated("b")), |_, _| false);
    let mut delivered = Vec::new();
    let mut room = 1;
    let mut flush = |subscriptions: &mut Subscriptions<u32>| {
        subscriptions.flush(one, |event, id| {
            assert_eq!(id, Some(b"7".as_slice()));
            room -= 1;
            if room >= 0 {
                delivered.push(event.topic().to_string());
            }
            room >= 0
        });
        room = 10;
    };
    flush(&mut subscriptions);
    flush(&mut subscriptions);
    flush(&mut subscriptions);
    assert_eq!(delivered, ["a", "b"]);
}

#[test]
fn names_of_topics_are_counted_once_and_their_size_is_bounded() {
    let limits = Limits { subscription_topics_max: 3, subscriber_bytes_max: 10, ..Limits::default() };
    let mut subscriptions = table(100, 16);
    let [one, two, three] = [1, 2, 3].map(|key| subscriptions.insert(key, PeerKey::default(), None));
    let none = Usage::default();
    let long = || Topic::resource("test://ab");
    for subscriber in [one, two, three, one] {
        assert_eq!(subscriptions.try_subscribe(subscriber, long(), none, &limits), Ok(()));
    }
    assert_eq!((subscriptions.bytes(), subscriptions.usage(one)), (9, Usage { named: 1, bytes: 9 }));
    let mut subscribe = |subscriber, uri: &str, others| {
        subscriptions.try_subscribe(subscriber, Topic::resource(uri), others, &limits)
    };
    assert_eq!(subscribe(one, "ab", none), Err(SubscriptionLimit::ClientBytes));
    assert_eq!(subscribe(one, "a", none), Ok(()));
    let others = Usage { named: 2, bytes: 0 };
    assert_eq!(subscribe(two, "", others), Err(SubscriptionLimit::ClientTopics));
    subscriptions.remove(two);
    subscriptions.unsubscribe(three, &long());
    assert_eq!(subscriptions.bytes(), 10, "one subscriber is left");
    let mut subscribe = |uri: &str| subscriptions.try_subscribe(three, Topic::resource(uri), none, &limits);
    assert_eq!(subscribe("1234567"), Err(SubscriptionLimit::Shard));
    assert_eq!(subscribe("123456"), Ok(()));
    subscriptions.remove(one);
    subscriptions.remove(three);
    assert_eq!((subscriptions.bytes(), subscriptions.check_invariants()), (0, Ok(())));
}

#[test]
fn time_of_a_subscription_does_not_depend_on_the_others() {
    let measure = |others: usize| {
        let mut subscriptions = table(1 << 40, 1 << 40);
        let other = subscriptions.insert(0, PeerKey::default(), None);
        for number in 0..others {
            subscriptions.subscribe(other, Topic::resource(&number.to_string()));
        }
        let started = std::time::Instant::now();
        for _ in 0..20 {
            let one = subscriptions.insert(1, PeerKey::default(), None);
            for number in 0..100 {
                subscriptions.subscribe(one, Topic::resource(&number.to_string()));
            }
            for number in 0..50 {
                subscriptions.unsubscribe(one, &Topic::resource(&number.to_string()));
            }
            subscriptions.remove(one);
        }
        started.elapsed()
    };
    let best = |others| (0..3).map(|_| measure(others)).min().unwrap();
    let (few, many) = (best(100), best(60_000));
    assert!(many < few * 30, "{few:?} beside 100 subscriptions, {many:?} beside 60,000");
}

#[test]
fn table_that_was_full_frees_its_memory() {
    // All that 131,072 buckets hold: an entry that is removed among full groups does not become capacity again.
    const MANY: usize = 7 * COMPACT_MIN;
    let mut subscriptions = table(1 << 40, 1 << 40);
    let [few, many] = [1, 2].map(|key| subscriptions.insert(key, PeerKey::default(), None));
    let uri = |number: usize| format!("page://{number}");
    for number in 0..MANY {
        let subscriber = if number % 100 == 0 { few } else { many };
        subscriptions.subscribe(subscriber, Topic::resource(&uri(number)));
    }
    assert!(subscriptions.slots.capacity() == MANY && subscriptions.members.capacity() >= MANY);
    let full = subscriptions.slots.allocation_size();
    assert!(!subscriptions.has_excess());
    subscriptions.remove(many);
    subscriptions.free_unused();
    assert_eq!(subscriptions.slots.allocation_size(), full, "it was full since the last check");
    assert!(subscriptions.has_excess());
    subscriptions.free_unused();
    assert!(!subscriptions.has_excess());
    assert_eq!(subscriptions.check_invariants(), Ok(()));
    assert!(subscriptions.slots.allocation_size() < full / 10);
    assert!(subscriptions.members.capacity() < MANY / 10);
    assert_eq!(receivers(&mut subscriptions, &uri(MANY - 88)), [1]);
    assert_eq!(subscriptions.subscribed(), MANY.div_ceil(100));
}

#[test]
fn violated_invariants_are_found() {
    type Damage = fn(&mut Subscriptions<u32>);
    let damages: [(&str, Damage); 4] = [
        ("is not indexed", |subscriptions| subscriptions.slots.clear()),
        ("another member", |subscriptions| subscriptions.members[0].members.swap(0, 1)),
        ("0 events are pending", |subscriptions| {
            subscriptions.subscribers[0].as_mut().unwrap().pending = 1;
        }),
        ("1 slots, 2 members", |subscriptions| subscriptions.subscribers[1] = None),
    ];
    for (expected, damage) in damages {
        let mut subscriptions = table(10, 1000);
        for key in 0..2 {
            let subscriber = subscriptions.insert(key, PeerKey::default(), None);
            subscriptions.subscribe(subscriber, Topic::resource("a"));
        }
        assert_eq!(subscriptions.check_invariants(), Ok(()));
        damage(&mut subscriptions);
        let found = subscriptions.check_invariants().unwrap_err();
        assert!(found.contains(expected), "{found} instead of {expected}");
    }
}

proptest! {
    /// The table against a plain set of pairs.
    #[test]
    fn random_operations_leave_the_expected_subscriptions(
        steps in prop::collection::vec((0_u8..5, 0_u32..6, 0_u8..5), 1..200)
    ) {
        let mut subscriptions = table(1 << 40, 1 << 40);
        let mut keys: HashMap<u32, SubscriberKey> = HashMap::new();
        let mut pairs = std::collections::BTreeSet::new();
        for (step, key, topic) in steps {
            let topic = Topic::resource(&topic.to_string());
            match step {
                0 | 1 => {
                    let subscriber = *keys.entry(key).or_insert_with(|| subscriptions.insert(key, PeerKey::default(), None));
                    subscriptions.subscribe(subscriber, topic.clone());
                    pairs.insert((topic, key));
                }
                2 => {
                    if let Some(subscriber) = keys.get(&key) {
                        subscriptions.unsubscribe(*subscriber, &topic);
                        pairs.remove(&(topic, key));
                    }
                }
                3 => subscriptions.compact(),
                _ => {
                    if let Some(subscriber) = keys.remove(&key) {
                        subscriptions.remove(subscriber);
                        pairs.retain(|(_, other)| *other != key);
                    }
                }
            }
            prop_assert_eq!(subscriptions.check_invariants(), Ok(()));
            prop_assert_eq!(subscriptions.subscribed(), pairs.len());
            prop_assert_eq!(subscriptions.listeners(), keys.len());
            for number in 0..5 {
                let uri = number.to_string();
                let expected: Vec<u32> =
                    pairs.iter().filter(|(topic, _)| *topic == Topic::resource(&uri)).map(|(_, key)| *key).collect();
                prop_assert_eq!(receivers(&mut subscriptions, &uri), expected);
            }
        }
    }
}
