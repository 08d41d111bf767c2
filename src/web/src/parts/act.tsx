// Doing something that may be refused, and saying how it went; asking before what is grave.

import { App, Input, Modal } from "antd";
import { type ReactNode, useState } from "react";
import { useWords } from "../i18n";
import { reasonOf } from "./states";

/** Runs it; tells of success in a line and of a refusal with its reason. */
export function useAct(): (work: () => Promise<unknown>, done: string) => Promise<boolean> {
  const { message, modal } = App.useApp();
  const words = useWords();
  return async (work, done) => {
    try {
      await work();
      void message.success(done);
      return true;
    } catch (error) {
      const { reason, todo } = reasonOf(error, words);
      modal.error({
        title: words.t("error.title"),
        content: (
          <>
            {reason && <p>{words.t("error.reason", { message: reason })}</p>}
            <p>{todo}</p>
          </>
        ),
        okText: words.t("common.close"),
      });
      return false;
    }
  };
}

export interface Question {
  title: string;
  text?: ReactNode;
  ok: string;
  danger?: boolean;
  /** Must be typed before it can be done. */
  type?: string;
  run: () => Promise<unknown>;
  done: string;
  after?: () => void;
}

/** A dialog that asks and then does. */
export function Ask({ question, onClose }: { question?: Question; onClose: () => void }) {
  const { t } = useWords();
  const act = useAct();
  const [busy, setBusy] = useState(false);
  const [typed, setTyped] = useState("");
  const close = () => {
    setTyped("");
    onClose();
  };
  const confirm = async () => {
    if (!question) return;
    setBusy(true);
    const well = await act(question.run, question.done);
    setBusy(false);
    close();
    if (well) question.after?.();
  };
  return (
    <Modal
      open={question !== undefined}
      title={question?.title}
      okText={question?.ok}
      cancelText={t("common.cancel")}
      okButtonProps={{
        danger: question?.danger,
        disabled: question?.type !== undefined && typed !== question.type,
      }}
      confirmLoading={busy}
      onOk={() => void confirm()}
      onCancel={close}
      destroyOnHidden
    >
      {question?.text}
      {question?.type !== undefined && (
        <label className="typed" htmlFor="typed-name">
          {t("object.deleteType", { name: question.type })}
          <Input
            id="typed-name"
            value={typed}
            autoFocus
            onChange={(event) => setTyped(event.target.value)}
          />
        </label>
      )}
    </Modal>
  );
}
