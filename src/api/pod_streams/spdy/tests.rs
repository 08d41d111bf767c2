//! SPDY against itself and against noise; kubectl's own is in `api/kube/stream_tests`.

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

use super::frame::{Codec, Frame};
use super::{HeaderList, serve};
use crate::api::pod_streams::websocket::{FromBytes, ToBytes};

fn headers() -> impl Strategy<Value = HeaderList> {
    prop::collection::vec(("[a-z-]{1,12}", "[ -~]{0,30}"), 0..8).prop_map(HeaderList)
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = 1u32..0x7fff_ffff;
    prop_oneof![
        (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::Open {
            stream,
            headers,
            fin
        }),
        (stream.clone(), headers(), any::<bool>())
            .prop_map(|(stream, headers, fin)| Frame::Reply { stream, headers, fin }),
        (stream.clone(), headers(), any::<bool>())
            .prop_map(|(stream, headers, fin)| Frame::Headers { stream, headers, fin }),
        (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
        any::<u32>().prop_map(|id| Frame::Ping { id }),
        (stream.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (stream, prop::collection::vec(any::<u8>(), 0..300), any::<bool>())
            .prop_map(|(stream, bytes, fin)| Frame::Data { stream, bytes: bytes.into(), fin }),
        (9u16..20).prop_map(|kind| Frame::Other { kind }),
    ]
}

fn decode_all(codec: &mut Codec, bytes: &[u8], cut: usize) -> Vec<Frame> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(cut) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = codec.decode(&mut buffer).unwrap() {
            frames.push(frame);
        }
    }
    assert!(buffer.is_empty(), "{} bytes are left over", buffer.len());
    frames
}

/// The second block refers to words of the first, and
/// only the same decompressor understands it.
#[test]
fn header_blocks_share_their_context() {
    let list = |id: &str| {
        let pairs = [("port", "80"), ("requestid", id), ("streamtype", "error")];
        HeaderList(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    };
    let mut bytes = BytesMut::new();
    let mut codec = Codec::default();
    for (stream, id) in [(1, "0"), (3, "1")] {
        let frame = Frame::Open { stream, headers: list(id), fin: false };
        codec.encode(frame, &mut bytes).unwrap();
    }
    let first = usize::from(bytes[7]) + 8;
    assert!(bytes.len() - first < first, "the second block is not shorter than the first");
    let mut alone = BytesMut::from(&bytes[first..]);
    assert!(Codec::default().decode(&mut alone).is_err());
    assert_eq!(decode_all(&mut Codec::default(), &bytes, 7).len(), 2);
}

#[test]
fn a_block_that_unpacks_to_too_much_is_refused() {
    let huge = HeaderList(vec![("a".to_owned(), "x".repeat(100_000))]);
    let mut bytes = BytesMut::new();
    let frame = Frame::Open { stream: 1, headers: huge, fin: false };
    Codec::default().encode(frame, &mut bytes).unwrap();
    assert!(bytes.len() < 2_000, "the bomb is small: {}", bytes.len());
    assert!(Codec::default().decode(&mut bytes).is_err());
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        frames in prop::collection::vec(frame(), 0..20),
        cut in 1usize..50,
    ) {
        let (mut codec, mut bytes) = (Codec::default(), BytesMut::new());
        for frame in &frames {
            codec.encode(frame.clone(), &mut bytes).unwrap();
        }
        prop_assert_eq!(decode_all(&mut Codec::default(), &bytes, cut), frames);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut codec, mut buffer) = (Codec::default(), BytesMut::from(bytes.as_slice()));
        while let Ok(Some(_)) = codec.decode(&mut buffer) {}
    }

    /// One byte of a good conversation is wrong: an error or other frames, never a panic.
    #[test]
    fn a_damaged_conversation_never_panics(
        frames in prop::collection::vec(frame(), 1..10),
        place in any::<prop::sample::Index>(),
        damage in 1u8..,
    ) {
        let (mut codec, mut bytes) = (Codec::default(), BytesMut::new());
        for frame in frames {
            codec.encode(frame, &mut bytes).unwrap();
        }
        let place = place.index(bytes.len());
        bytes[place] ^= damage;
        let mut codec = Codec::default();
        while let Ok(Some(_)) = codec.decode(&mut bytes) {}
    }
}

/// A connection in memory: what a client writes and hears.
struct Client {
    to: futures::channel::mpsc::Sender<std::io::Result<Bytes>>,
    from: futures::channel::mpsc::Receiver<Bytes>,
    codec: Codec,
    heard: BytesMut,
}

fn connection() -> (Client, FromBytes, ToBytes) {
    let (to, from_client) = futures::channel::mpsc::channel(64);
    let (to_client, from) = futures::channel::mpsc::channel(64);
    let sink = to_client.sink_map_err(std::io::Error::other);
    let client = Client { to, from, codec: Codec::default(), heard: BytesMut::new() };
    (client, from_client.boxed(), Box::pin(sink))
}

impl Client {
    async fn say(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.codec.encode(frame, &mut bytes).unwrap();
        self.to.send(Ok(bytes.freeze())).await.unwrap();
    }

    async fn hear(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.heard).unwrap() {
                return frame;
            }
            let bytes = self.from.next().await.expect("the connection goes on");
            self.heard.extend_from_slice(&bytes);
        }
    }
}

#[tokio::test]
async fn streams_are_answered_echoed_and_forgotten() {
    let (mut client, from, to) = connection();
    let server = serve(from, to, |mut streams, outgoing| async move {
        while let Some(mut stream) = streams.recv().await {
            while let Some(bytes) = stream.data.recv().await {
                outgoing.send(stream.id, bytes).await;
            }
            outgoing.finish(stream.id).await;
        }
    });
    let talk = async move {
        let (no_headers, data) = (HeaderList::default(), Bytes::from_static(b"hello"));
        // Far more than may be open at a time: each is forgotten when both have ended it.
        for stream in (1..6_000).step_by(2) {
            client.say(Frame::Open { stream, headers: no_headers.clone(), fin: false }).await;
            client.say(Frame::Data { stream, bytes: data.clone(), fin: true }).await;
            let reply = Frame::Reply { stream, headers: no_headers.clone(), fin: false };
            assert_eq!(client.hear().await, reply);
            assert_eq!(
                client.hear().await,
                Frame::Data { stream, bytes: data.clone(), fin: false }
            );
            assert_eq!(client.hear().await, Frame::Data { stream, bytes: Bytes::new(), fin: true });
        }
        client.say(Frame::Ping { id: 7 }).await;
        assert_eq!(client.hear().await, Frame::Ping { id: 7 });
        client.say(Frame::Open { stream: 2, headers: no_headers, fin: false }).await;
        assert!(matches!(client.hear().await, Frame::Reset { stream: 2, .. }));
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        tokio::join!(server, talk);
    })
    .await
    .unwrap();
}
