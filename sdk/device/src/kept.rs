//! Messages that outlive a connection: sent and not acknowledged, or not sent yet.
//!
//! The MQTT library forgets them whenever the hub has no session of the device any more; a message is never lost for that.

use std::collections::VecDeque;

use rumqttc::{EventLoop, Publish, QoS, Request};

/// Messages that are kept; beyond it the oldest are dropped.
const KEPT_MAX: usize = 1024;
/// Messages that wait for their acknowledgement at once.
pub(crate) const INFLIGHT_MAX: u16 = 100;

#[derive(Default)]
pub(crate) struct Kept(VecDeque<Publish>);

impl Kept {
    /// Takes what an ended connection left behind. Requests at QoS 0 are forgotten: whoever made them asks again.
    pub(crate) fn take(&mut self, eventloop: &mut EventLoop) {
        let left = std::mem::take(&mut eventloop.pending).into_iter().filter_map(|request| match request {
            Request::Publish(publish) if publish.qos == QoS::AtLeastOnce => Some(publish),
            _ => None,
        });
        // What has a packet id was sent already and goes first.
        let (mut messages, new): (VecDeque<_>, VecDeque<_>) = left.partition(|publish| publish.pkid != 0);
        if let Some(mut waiting) = eventloop.state.collision.take() {
            waiting.pkid = 0;
            messages.push_back(waiting);
        }
        messages.append(&mut self.0);
        messages.extend(new);
        if let Some(surplus) = messages.len().checked_sub(KEPT_MAX).filter(|surplus| *surplus > 0) {
            tracing::warn!(surplus, "messages are dropped: too many wait for the hub");
            messages.drain(..surplus);
        }
        self.0 = messages;
    }

    /// Gives the next message back, if it can be sent without taking the packet id of another.
    pub(crate) fn give(&mut self, eventloop: &mut EventLoop) {
        if eventloop.pending.is_empty()
            && eventloop.state.inflight() < INFLIGHT_MAX
            && eventloop.state.collision.is_none()
            && let Some(publish) = self.0.pop_front()
        {
            eventloop.pending.push_back(Request::Publish(publish));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::{AsyncClient, MqttOptions};

    fn publish(pkid: u16, qos: QoS, body: &str) -> Request {
        let mut publish = Publish::new("t", qos, body);
        publish.pkid = pkid;
        Request::Publish(publish)
    }

    fn bodies(kept: &Kept) -> Vec<String> {
        kept.0.iter().map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
    }

    #[test]
    fn messages_are_kept_in_order_and_within_the_limit() {
        let (_client, mut eventloop) = AsyncClient::new(MqttOptions::new("d", "h", 1), 1);
        let mut kept = Kept::default();
        eventloop.pending.extend([
            publish(7, QoS::AtLeastOnce, "sent"),
            publish(0, QoS::AtMostOnce, "a twin request"),
            Request::Disconnect(rumqttc::Disconnect),
            publish(0, QoS::AtLeastOnce, "new"),
        ]);
        kept.take(&mut eventloop);
        assert!(eventloop.pending.is_empty());
        assert_eq!(bodies(&kept), ["sent", "new"]);
        // Of the next connection only one message came as far as the wire.
        eventloop
            .pending
            .extend([publish(8, QoS::AtLeastOnce, "first"), publish(0, QoS::AtLeastOnce, "newest")]);
        kept.take(&mut eventloop);
        assert_eq!(bodies(&kept), ["first", "sent", "new", "newest"]);
        // One at a time goes back.
        kept.give(&mut eventloop);
        kept.give(&mut eventloop);
        assert_eq!((eventloop.pending.len(), bodies(&kept).len()), (1, 3));
        eventloop.pending.extend((0..KEPT_MAX).map(|_| publish(0, QoS::AtLeastOnce, "last")));
        kept.take(&mut eventloop);
        assert_eq!(kept.0.len(), KEPT_MAX);
        assert_eq!(bodies(&kept)[0], "last");
    }
}
