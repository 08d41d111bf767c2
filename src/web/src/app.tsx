// Who is here decides what is shown: the sign-in, or the frame with its pages.

import { App as AntApp, Button, ConfigProvider } from "antd";
import type { Locale } from "antd/es/locale";
import { Component, type ReactNode, useEffect, useState, useSyncExternalStore } from "react";
import { useWords } from "./i18n";
import { SignIn } from "./pages/sign-in";
import { Shell } from "./parts/shell";
import { Loading } from "./parts/states";
import { current, load, subscribe } from "./session";
import { THEME } from "./theme";

/** A fault of the page itself must not leave it blank. */
class Caught extends Component<
  { children: ReactNode; text: [string, string] },
  { failed: boolean }
> {
  state = { failed: false };
  static getDerivedStateFromError() {
    return { failed: true };
  }
  render() {
    if (!this.state.failed) return this.props.children;
    const [said, again] = this.props.text;
    return (
      <main className="lost" role="alert">
        <p>{said}</p>
        <Button onClick={() => location.reload()}>{again}</Button>
      </main>
    );
  }
}

export function App() {
  const { language, t } = useWords();
  const { session, failed } = useSyncExternalStore(subscribe, current);
  const [chinese, setChinese] = useState<Locale>();
  useEffect(() => void load(), []);
  useEffect(() => {
    // The components' own few words; English is in them.
    if (language === "zh")
      void import("antd/locale/zh_CN").then((found) => setChinese(found.default));
  }, [language]);
  return (
    <ConfigProvider
      locale={language === "zh" ? chinese : undefined}
      theme={THEME}
      button={{ autoInsertSpace: false }}
    >
      <AntApp message={{ maxCount: 3 }} notification={{}}>
        <Caught text={[t("app.crashed"), t("app.reload")]}>
          {session?.signedIn ? <Shell /> : session || failed ? <SignIn /> : <Loading />}
        </Caught>
      </AntApp>
    </ConfigProvider>
  );
}
