// The form beside the editor: the fields of one document that most people set.

import { Button, Input, InputNumber, Select, Switch } from "antd";
import { type ReactNode, useId } from "react";
import { useWords } from "../i18n";
import {
  lineOfWords,
  type Path,
  podOf,
  read,
  readList,
  readText,
  rename,
  wordsOf,
  write,
} from "./forms";
import type { Part } from "./manifest";

interface Own {
  text: string;
  part: Part;
  onText: (text: string) => void;
}

function Field({ label, children }: { label: string; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
    </div>
  );
}

/** A text at a path; empty takes the field away unless it is needed. */
function TextField({
  own,
  path,
  label,
  needed,
  hint,
}: {
  own: Own;
  path: Path;
  label: string;
  needed?: boolean;
  hint?: string;
}) {
  const value = readText(own.part, path);
  return (
    <Field label={label}>
      {(id) => (
        <Input
          id={id}
          value={value}
          placeholder={hint}
          status={needed && value === "" ? "error" : undefined}
          onChange={(event) => {
            const next = event.target.value;
            own.onText(write(own.text, own.part, path, next === "" && !needed ? undefined : next));
          }}
        />
      )}
    </Field>
  );
}

function NumberField({
  own,
  path,
  label,
  min = 0,
  max,
}: {
  own: Own;
  path: Path;
  label: string;
  min?: number;
  max?: number;
}) {
  const value = read(own.part, path);
  return (
    <Field label={label}>
      {(id) => (
        <InputNumber
          id={id}
          min={min}
          max={max}
          precision={0}
          value={typeof value === "number" ? value : null}
          onChange={(next) => own.onText(write(own.text, own.part, path, next ?? undefined))}
        />
      )}
    </Field>
  );
}

function ChoiceField({
  own,
  path,
  label,
  choices,
  standard,
}: {
  own: Own;
  path: Path;
  label: string;
  choices: string[];
  /** What the server takes if nothing is said. */
  standard: string;
}) {
  return (
    <Field label={label}>
      {(id) => (
        <Select
          id={id}
          value={readText(own.part, path) || standard}
          options={choices.map((value) => ({ value, label: value }))}
          onChange={(next: string) => own.onText(write(own.text, own.part, path, next))}
        />
      )}
    </Field>
  );
}

/** A list of small records, each in a row of fields. */
function Rows({
  own,
  path,
  label,
  add,
  fresh,
  row,
}: {
  own: Own;
  path: Path;
  label: string;
  add: string;
  fresh: unknown;
  row: (path: Path) => ReactNode;
}) {
  const { t } = useWords();
  const items = readList(own.part, path);
  return (
    <fieldset className="rows">
      <legend>{label}</legend>
      {items.map((_, number) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a place in the text is all that it is
        <div className="row" key={number}>
          {row([...path, number])}
          <Button
            type="text"
            aria-label={t("deploy.removeRow", { label, number: number + 1 })}
            onClick={() => own.onText(write(own.text, own.part, [...path, number], undefined))}
          >
            {"×"}
          </Button>
        </div>
      ))}
      <Button
        size="small"
        onClick={() => own.onText(write(own.text, own.part, path, [...items, fresh]))}
      >
        {add}
      </Button>
    </fieldset>
  );
}

function Probe({ own, container }: { own: Own; container: Path }) {
  const { t } = useWords();
  const probe: Path = [...container, "readinessProbe"];
  const there = read(own.part, probe) !== undefined;
  const other = there && read(own.part, [...probe, "httpGet"]) === undefined;
  const port = readText(own.part, [...container, "ports", 0, "name"]);
  const number = read(own.part, [...container, "ports", 0, "containerPort"]);
  const fresh = { httpGet: { path: "/", port: port || number || 80 }, periodSeconds: 5 };
  return (
    <fieldset className="rows">
      <legend>{t("deploy.readiness")}</legend>
      <Field label={t("deploy.readinessOn")}>
        {(id) => (
          <Switch
            id={id}
            size="small"
            checked={there}
            onChange={(on) => own.onText(write(own.text, own.part, probe, on ? fresh : undefined))}
          />
        )}
      </Field>
      {other && <p className="soft">{t("deploy.readinessOther")}</p>}
      {there && !other && (
        <div className="row">
          <TextField own={own} path={[...probe, "httpGet", "path"]} label={t("deploy.path")} />
          <PortField own={own} path={[...probe, "httpGet", "port"]} label={t("deploy.port")} />
        </div>
      )}
    </fieldset>
  );
}

/** A port by number or by name. */
function PortField({ own, path, label }: { own: Own; path: Path; label: string }) {
  return (
    <Field label={label}>
      {(id) => (
        <Input
          id={id}
          value={readText(own.part, path)}
          onChange={(event) => {
            const typed = event.target.value.trim();
            const value = /^\d+$/.test(typed) ? Number(typed) : typed || undefined;
            own.onText(write(own.text, own.part, path, value));
          }}
        />
      )}
    </Field>
  );
}

function Container({ own, path, title }: { own: Own; path: Path; title: string }) {
  const { t } = useWords();
  const args: Path = [...path, "args"];
  return (
    <fieldset className="rows">
      <legend>{title}</legend>
      <TextField own={own} path={[...path, "image"]} label={t("pod.image")} needed />
      <Field label={t("deploy.args")}>
        {(id) => (
          <Input
            id={id}
            defaultValue={lineOfWords(readList(own.part, args))}
            key={lineOfWords(readList(own.part, args))}
            onBlur={(event) => {
              const words = wordsOf(event.target.value);
              const next = words.length > 0 ? words : undefined;
              const before = readList(own.part, args);
              if (lineOfWords(before) === lineOfWords(words)) return;
              own.onText(write(own.text, own.part, args, next));
            }}
          />
        )}
      </Field>
      <Rows
        own={own}
        path={[...path, "ports"]}
        label={t("pod.ports")}
        add={t("deploy.addPort")}
        fresh={{ containerPort: 8080 }}
        row={(at) => (
          <>
            <TextField own={own} path={[...at, "name"]} label={t("common.name")} />
            <NumberField
              own={own}
              path={[...at, "containerPort"]}
              label={t("deploy.port")}
              min={1}
              max={65_535}
            />
          </>
        )}
      />
      <Rows
        own={own}
        path={[...path, "env"]}
        label={t("deploy.env")}
        add={t("deploy.addEnv")}
        fresh={{ name: "", value: "" }}
        row={(at) => (
          <>
            <TextField own={own} path={[...at, "name"]} label={t("common.name")} needed />
            {read(own.part, [...at, "valueFrom"]) === undefined ? (
              <TextField own={own} path={[...at, "value"]} label={t("config.value")} />
            ) : (
              <p className="soft">{t("deploy.envFrom")}</p>
            )}
          </>
        )}
      />
      <fieldset className="rows">
        <legend>{t("deploy.resources")}</legend>
        {(["cpu", "memory"] as const).map((resource) => (
          <div className="row" key={resource}>
            {(["requests", "limits"] as const).map((what) => (
              <TextField
                key={what}
                own={own}
                path={[...path, "resources", what, resource]}
                label={t(`deploy.${what}.${resource}`)}
                hint={resource === "cpu" ? "100m" : "128Mi"}
              />
            ))}
          </div>
        ))}
      </fieldset>
      <Probe own={own} container={path} />
    </fieldset>
  );
}

function Schedule({ own }: { own: Own }) {
  const { t } = useWords();
  return (
    <>
      <TextField
        own={own}
        path={["spec", "schedule"]}
        label={t("deploy.schedule")}
        needed
        hint="0 2 * * *"
      />
      <ChoiceField
        own={own}
        path={["spec", "concurrencyPolicy"]}
        label={t("deploy.concurrency")}
        choices={["Allow", "Forbid", "Replace"]}
        standard="Allow"
      />
      <Field label={t("deploy.suspend")}>
        {(id) => (
          <Switch
            id={id}
            size="small"
            checked={read(own.part, ["spec", "suspend"]) === true}
            onChange={(on) =>
              own.onText(write(own.text, own.part, ["spec", "suspend"], on || undefined))
            }
          />
        )}
      </Field>
    </>
  );
}

function Claims({ own }: { own: Own }) {
  const { t } = useWords();
  const path: Path = ["spec", "volumeClaimTemplates"];
  const fresh = {
    metadata: { name: "data" },
    spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
  };
  return (
    <Rows
      own={own}
      path={path}
      label={t("deploy.claims")}
      add={t("deploy.addClaim")}
      fresh={fresh}
      row={(at) => (
        <>
          <TextField own={own} path={[...at, "metadata", "name"]} label={t("common.name")} needed />
          <TextField
            own={own}
            path={[...at, "spec", "resources", "requests", "storage"]}
            label={t("deploy.size")}
            needed
            hint="1Gi"
          />
          <TextField
            own={own}
            path={[...at, "spec", "storageClassName"]}
            label={t("deploy.class")}
          />
        </>
      )}
    />
  );
}

function ServiceFields({ own }: { own: Own }) {
  const { t } = useWords();
  return (
    <>
      <ChoiceField
        own={own}
        path={["spec", "type"]}
        label={t("common.type")}
        choices={["ClusterIP", "NodePort", "LoadBalancer"]}
        standard="ClusterIP"
      />
      <Rows
        own={own}
        path={["spec", "ports"]}
        label={t("pod.ports")}
        add={t("deploy.addPort")}
        fresh={{ port: 80 }}
        row={(at) => (
          <>
            <TextField own={own} path={[...at, "name"]} label={t("common.name")} />
            <NumberField
              own={own}
              path={[...at, "port"]}
              label={t("deploy.port")}
              min={1}
              max={65_535}
            />
            <PortField own={own} path={[...at, "targetPort"]} label={t("deploy.targetPort")} />
          </>
        )}
      />
    </>
  );
}

function DataFields({ own }: { own: Own }) {
  const { t } = useWords();
  const data = read(own.part, ["data"]);
  const keys = data !== null && typeof data === "object" ? Object.keys(data) : [];
  return (
    <>
      {keys.map((key) => (
        <Field key={key} label={key}>
          {(id) => (
            <Input.TextArea
              id={id}
              rows={Math.min(8, readText(own.part, ["data", key]).split("\n").length)}
              value={readText(own.part, ["data", key])}
              onChange={(event) =>
                own.onText(write(own.text, own.part, ["data", key], event.target.value))
              }
            />
          )}
        </Field>
      ))}
      {keys.length === 0 && <p className="soft">{t("common.none")}</p>}
    </>
  );
}

export function Form({ text, part, onText }: Own) {
  const { t } = useWords();
  const own: Own = { text, part, onText };
  const pod = podOf(part.kind);
  const containers: Path = [...(pod ?? []), "spec", "containers"];
  return (
    <div className="form">
      <Field label={t("common.name")}>
        {(id) => (
          <Input
            id={id}
            value={readText(part, ["metadata", "name"])}
            status={part.name === "" ? "error" : undefined}
            onChange={(event) => {
              const next = event.target.value;
              onText(
                pod ? rename(text, part, next) : write(text, part, ["metadata", "name"], next),
              );
            }}
          />
        )}
      </Field>
      {part.kind !== "Namespace" && (
        <TextField own={own} path={["metadata", "namespace"]} label={t("deploy.ownNamespace")} />
      )}
      {["Deployment", "StatefulSet", "ReplicaSet"].includes(part.kind) && (
        <NumberField
          own={own}
          path={["spec", "replicas"]}
          label={t("object.replicas")}
          max={10_000}
        />
      )}
      {part.kind === "CronJob" && <Schedule own={own} />}
      {pod &&
        readList(part, containers).map((_, number) => {
          const path = [...containers, number];
          const name = readText(part, [...path, "name"]);
          return (
            <Container
              // biome-ignore lint/suspicious/noArrayIndexKey: a place in the text is all that it is
              key={number}
              own={own}
              path={path}
              title={`${t("pod.container")} ${name}`}
            />
          );
        })}
      {part.kind === "StatefulSet" && <Claims own={own} />}
      {part.kind === "Service" && <ServiceFields own={own} />}
      {part.kind === "ConfigMap" && <DataFields own={own} />}
    </div>
  );
}
