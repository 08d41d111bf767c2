// Scale, restart, delete: what the server offers for an object's kind.

import { Button, InputNumber, Modal } from "antd";
import { useState } from "react";
import { useLocation } from "wouter";
import { remove, restart, scale } from "../api/actions";
import { type Kind, listPage } from "../api/kinds";
import { num, type Obj } from "../api/objects";
import { useWords } from "../i18n";
import { Ask, type Question, useAct } from "./act";

const RESTARTED = new Set(["Deployment", "StatefulSet", "DaemonSet"]);

export function ScaleDialog({
  kind,
  object,
  onClose,
}: {
  kind: Kind;
  object: Obj;
  onClose: () => void;
}) {
  const { t } = useWords();
  const act = useAct();
  const { namespace, name } = object.metadata;
  const [replicas, setReplicas] = useState<number | null>(num(object, "spec.replicas"));
  const [busy, setBusy] = useState(false);
  const run = async () => {
    if (replicas === null) return;
    setBusy(true);
    const well = await act(
      () => scale(kind, namespace, name, replicas),
      t("object.scaled", { name, replicas }),
    );
    setBusy(false);
    if (well) onClose();
  };
  return (
    <Modal
      open
      title={t("object.scaleTitle", { name })}
      okText={t("object.scale")}
      cancelText={t("common.cancel")}
      confirmLoading={busy}
      okButtonProps={{ disabled: replicas === null }}
      onOk={() => void run()}
      onCancel={onClose}
    >
      <label className="typed" htmlFor="replicas">
        {t("object.replicas")}
        <InputNumber
          id="replicas"
          min={0}
          max={10_000}
          precision={0}
          value={replicas}
          onChange={setReplicas}
          onPressEnter={() => void run()}
          autoFocus
        />
      </label>
    </Modal>
  );
}

export function ObjectActions({ kind, object }: { kind: Kind; object: Obj }) {
  const { t } = useWords();
  const [, go] = useLocation();
  const [question, setQuestion] = useState<Question>();
  const [scaling, setScaling] = useState(false);
  const { namespace, name, uid } = object.metadata;
  const restarting: Question = {
    title: t("object.restartTitle", { name }),
    text: t("object.restartText"),
    ok: t("object.restart"),
    run: () => restart(kind, namespace, name),
    done: t("object.restarted", { name }),
  };
  const deleting: Question = {
    title: t("object.deleteTitle", { kind: kind.kind, name }),
    text: t("object.deleteText"),
    ok: t("object.delete"),
    danger: true,
    type: name,
    run: () => remove(kind, namespace, name, uid),
    done: t("object.deleted", { name }),
    after: () => go(listPage(kind)),
  };
  return (
    <>
      {kind.subresources.includes("scale") && (
        <Button onClick={() => setScaling(true)}>{t("object.scale")}</Button>
      )}
      {RESTARTED.has(kind.kind) && kind.group === "apps" && (
        <Button onClick={() => setQuestion(restarting)}>{t("object.restart")}</Button>
      )}
      {kind.verbs.includes("delete") && (
        <Button danger onClick={() => setQuestion(deleting)}>
          {t("object.delete")}
        </Button>
      )}
      <Ask question={question} onClose={() => setQuestion(undefined)} />
      {scaling && <ScaleDialog kind={kind} object={object} onClose={() => setScaling(false)} />}
    </>
  );
}
