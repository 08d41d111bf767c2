// A terminal in a container: xterm.js over a WebSocket in v5.channel.k8s.io.
//
// Each message begins with its channel: 0 what is typed, 1 and 2 what is said, 3 how it
// ended, 4 the size of the window, 255 that a channel is closed.

import "@xterm/xterm/css/xterm.css";
import { FitAddon } from "@xterm/addon-fit";
import { Terminal as Screen } from "@xterm/xterm";
import { Alert, Button, Input } from "antd";
import { useEffect, useRef, useState } from "react";
import { somebodyIsHere } from "../api/activity";
import { useWords } from "../i18n";

const PROTOCOL = "v5.channel.k8s.io";
const KEYS = 0;
const ERROR = 3;
const SIZE = 4;

function send(socket: WebSocket, channel: number, text: string): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  const bytes = new TextEncoder().encode(text);
  const message = new Uint8Array(bytes.length + 1);
  message[0] = channel;
  message.set(bytes, 1);
  socket.send(message);
}

type End = "no" | "ended" | "refused";

export default function Terminal({ path, container }: { path: string; container: string }) {
  const { t } = useWords();
  const frame = useRef<HTMLDivElement>(null);
  const [command, setCommand] = useState("/bin/sh");
  const [running, setRunning] = useState<{ command: string; number: number }>();
  const [end, setEnd] = useState<End>("no");
  const [said, setSaid] = useState("");

  useEffect(() => {
    const element = frame.current;
    if (!running || !element) return;
    setEnd("no");
    setSaid("");
    const screen = new Screen({
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", Consolas, monospace',
      fontSize: 13,
      scrollback: 5_000,
      screenReaderMode: true,
      theme: { background: "#0f1a24", foreground: "#d5e0ea", cursor: "#d5e0ea" },
    });
    const fit = new FitAddon();
    screen.loadAddon(fit);
    screen.open(element);
    fit.fit();
    const words = running.command.split(/\s+/).filter(Boolean);
    const asked = words.map((word) => `command=${encodeURIComponent(word)}`).join("&");
    const address = new URL(
      `${path}/exec?container=${container}&stdin=true&stdout=true&tty=true&${asked}`,
      location.href,
    );
    address.protocol = "wss:";
    const socket = new WebSocket(address, [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    let opened = false;
    // Nobody waits for a connection before typing.
    let early = "";
    const resize = () =>
      send(socket, SIZE, JSON.stringify({ Width: screen.cols, Height: screen.rows }));
    socket.onopen = () => {
      opened = true;
      resize();
      if (early !== "") send(socket, KEYS, early);
      screen.focus();
    };
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => {
      const bytes = new Uint8Array(event.data);
      const rest = bytes.subarray(1);
      if (bytes[0] === ERROR) {
        const status = JSON.parse(new TextDecoder().decode(rest)) as { message?: string };
        setSaid(status.message ?? "");
      } else if (bytes[0] === 1 || bytes[0] === 2) {
        screen.write(rest);
      }
    };
    socket.onclose = () => setEnd(opened ? "ended" : "refused");
    const typed = screen.onData((data) => {
      somebodyIsHere();
      if (opened) send(socket, KEYS, data);
      else early += data;
    });
    const sized = screen.onResize(resize);
    const watcher = new ResizeObserver(() => fit.fit());
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      typed.dispose();
      sized.dispose();
      socket.onclose = null;
      socket.close();
      screen.dispose();
    };
  }, [running, path, container]);

  return (
    <div className="stack">
      <form
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          setRunning({ command, number: (running?.number ?? 0) + 1 });
        }}
      >
        <Input
          className="filter"
          aria-label={t("terminal.command")}
          value={command}
          onChange={(event) => setCommand(event.target.value)}
        />
        <Button type="primary" htmlType="submit" disabled={command.trim() === ""}>
          {t("terminal.start")}
        </Button>
        <span className="soft">{t("terminal.lead", { container })}</span>
      </form>
      {end !== "no" && (
        <Alert
          type={end === "refused" ? "error" : "info"}
          showIcon
          title={t(end === "refused" ? "terminal.refused" : "terminal.ended")}
          description={said || undefined}
        />
      )}
      {running && (
        <div
          key={running.number}
          ref={frame}
          className="console"
          role="application"
          aria-label={t("terminal.label", { container })}
        />
      )}
    </div>
  );
}
