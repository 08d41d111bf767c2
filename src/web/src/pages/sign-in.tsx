// The door: by password, by token, or by the browser's certificate.

import { Alert, Button, Form, Input, Segmented } from "antd";
import { useEffect, useState, useSyncExternalStore } from "react";
import { ApiError } from "../api/http";
import { choose, useWords } from "../i18n";
import { current, type Shown, signIn, subscribe } from "../session";

type Way = "password" | "token" | "certificate";

interface Entered {
  user?: string;
  password?: string;
  token?: string;
}

export function SignIn() {
  const { t, language } = useWords();
  const { session, why, failed } = useSyncExternalStore(subscribe, current);
  const certificate = session?.certificate ?? null;
  const [way, setWay] = useState<Way>("password");
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const required = [{ required: true, message: t("signIn.required") }];

  useEffect(() => {
    document.title = `${t("signIn.title")} · Holdfast`;
  }, [t]);

  const enter = async (entered: Entered) => {
    const shown: Shown =
      way === "password"
        ? { method: way, user: entered.user ?? "", password: entered.password ?? "" }
        : way === "token"
          ? { method: way, token: (entered.token ?? "").trim() }
          : { method: way };
    setBusy(true);
    setError(undefined);
    try {
      await signIn(shown);
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : new ApiError(0, "", String(problem)));
    } finally {
      setBusy(false);
    }
  };

  const said = () => {
    if (error) {
      if (error.code === 401) return t("signIn.wrong");
      if (error.code === 429) return t("signIn.locked", { seconds: error.retryAfter ?? "" });
      if (error.code === 0) return t("signIn.unreachable");
      return t("error.reason", { message: error.message });
    }
    if (failed) return t("signIn.unreachable");
    if (why === "idle") return t("signIn.idle", { minutes: 30 });
    if (why === "over") return t("signIn.over");
    if (why === "out") return t("signIn.out");
    return undefined;
  };
  const told = said();

  return (
    <main className="door">
      <div className="card">
        <div className="brand">
          <img src="/ui/icon.svg" alt="" />
          <div>
            <h1>Holdfast</h1>
            <p className="soft">{t("signIn.lead")}</p>
          </div>
        </div>
        {told && (
          <Alert type={error || failed ? "error" : "info"} showIcon title={told} role="alert" />
        )}
        <Segmented<Way>
          block
          className="kinds"
          value={way}
          onChange={(next) => {
            setWay(next);
            setError(undefined);
          }}
          options={[
            { value: "password", label: t("signIn.password") },
            { value: "token", label: t("signIn.token") },
            { value: "certificate", label: t("signIn.certificate") },
          ]}
        />
        <Form<Entered>
          key={way}
          layout="vertical"
          requiredMark={false}
          initialValues={{ user: "admin" }}
          onFinish={(entered) => void enter(entered)}
        >
          {way === "password" && (
            <>
              <Form.Item name="user" label={t("signIn.user")} rules={required}>
                <Input autoComplete="username" size="large" />
              </Form.Item>
              <Form.Item name="password" label={t("signIn.passwordField")} rules={required}>
                <Input.Password autoComplete="current-password" size="large" autoFocus />
              </Form.Item>
            </>
          )}
          {way === "token" && (
            <Form.Item name="token" label={t("signIn.tokenField")} rules={required}>
              <Input.Password autoComplete="off" size="large" autoFocus />
            </Form.Item>
          )}
          {way === "certificate" && (
            <p className="certificate">
              {certificate
                ? t("signIn.certificateReady", { user: certificate })
                : t("signIn.certificateNone")}
            </p>
          )}
          <Button
            block
            type="primary"
            size="large"
            htmlType="submit"
            loading={busy}
            disabled={way === "certificate" && !certificate}
            style={way === "certificate" ? { marginTop: 16 } : undefined}
          >
            {way === "certificate" && certificate
              ? t("signIn.submitCertificate", { user: certificate })
              : t("signIn.submit")}
          </Button>
        </Form>
        {way === "password" && <p className="hint">{t("signIn.passwordHint")}</p>}
        {way === "token" && <p className="hint">{t("signIn.tokenHint")}</p>}
        <div className="foot">
          <Button
            type="link"
            size="small"
            lang={language === "zh" ? "en" : "zh-CN"}
            onClick={() => choose(language === "zh" ? "en" : "zh")}
          >
            {language === "zh" ? "English" : "中文"}
          </Button>
        </div>
      </div>
    </main>
  );
}
