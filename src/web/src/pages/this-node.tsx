// What this node knows by itself: the page that also helps without a majority.

import { Alert, Button } from "antd";
import { useWords } from "../i18n";
import { Facts, PageHead, Panel } from "../parts/frame";
import { useLoaded } from "../parts/hooks";
import { DataTable } from "../parts/listing";
import { Dot } from "../parts/state-tag";
import { Failed, Loading } from "../parts/states";

interface Member {
  id: number;
  name: string;
  address: string;
  voter: boolean;
  leader: boolean;
  answers: boolean;
  lagEntries: number | null;
}

interface Status {
  cluster: string;
  clusterId: string;
  generation: number;
  answeredBy: string;
  quorum: boolean;
  asOf: string;
  quorumLoss: { answering: string[]; silent: string[]; remedy: string } | null;
  store: { term: number; revision: number; logBytes: number; stateBytes: number };
  members: Member[];
  certificates: { name: string; expires: string; daysLeft: number }[];
  disks: { path: string; totalBytes: number; freeBytes: number }[];
  problems: string[];
}

export default function ThisNode() {
  const { t, n, moment } = useWords();
  const { value: status, error, loading, again } = useLoaded<Status>("/holdfast/v1/status");
  const size = (bytes: number) =>
    bytes >= 1024 ** 3 ? `${n(bytes / 1024 ** 3, 1)} GiB` : `${n(bytes / 1024 ** 2, 1)} MiB`;
  const leader = status?.members.find((member) => member.leader);
  return (
    <>
      <PageHead
        title={t("here.title")}
        above={status && t("here.lead", { node: status.answeredBy })}
      >
        <Button loading={loading} onClick={again}>
          {t("common.refresh")}
        </Button>
      </PageHead>
      {error && <Failed error={error} again={again} />}
      {!status && !error && <Loading />}
      {status && (
        <div className="grid">
          <Panel wide title={t("here.problems")}>
            {status.problems.length === 0 ? (
              <Dot tone="good" text={t("here.well")} />
            ) : (
              <ul className="attention" lang="en">
                {status.problems.map((problem) => (
                  <li key={problem}>
                    <Dot tone="warn" text={problem} />
                  </li>
                ))}
              </ul>
            )}
            {status.quorumLoss && (
              <Alert
                type="error"
                showIcon
                title={t("here.todo", { remedy: status.quorumLoss.remedy })}
              />
            )}
          </Panel>
          <Panel wide title={t("here.store")}>
            <Facts
              facts={[
                [
                  t("here.quorum"),
                  <Dot
                    key="quorum"
                    tone={status.quorum ? "good" : "bad"}
                    text={t(status.quorum ? "common.yes" : "common.no")}
                  />,
                ],
                [t("here.leader"), leader?.name ?? t("here.noLeader")],
                [t("here.asOf"), moment(status.asOf)],
                [t("here.generation"), status.generation],
                [t("here.term"), n(status.store.term)],
                [t("here.revision"), n(status.store.revision)],
                [t("here.log"), size(status.store.logBytes)],
                [t("here.stateSize"), size(status.store.stateBytes)],
              ]}
            />
          </Panel>
          <Panel wide title={t("here.members")}>
            <DataTable<Member>
              label={t("here.members")}
              rows={status.members}
              rowKey={(member) => String(member.id)}
              columns={[
                { title: t("common.name"), dataIndex: "name" },
                { title: t("here.member"), dataIndex: "id", align: "right", width: 90 },
                {
                  title: t("here.role"),
                  render: (_, member) =>
                    member.leader
                      ? t("here.leader")
                      : t(member.voter ? "here.voter" : "here.learner"),
                },
                { title: t("nodes.address"), dataIndex: "address" },
                {
                  title: t("here.answers"),
                  render: (_, member) => (
                    <Dot
                      tone={member.answers ? "good" : "bad"}
                      text={t(member.answers ? "common.yes" : "common.no")}
                    />
                  ),
                },
                {
                  title: t("here.lag"),
                  align: "right",
                  render: (_, member) =>
                    member.leader ? "–" : (member.lagEntries ?? t("common.unknown")),
                },
              ]}
            />
          </Panel>
          <Panel title={t("here.certificates")}>
            <DataTable
              label={t("here.certificates")}
              rows={status.certificates}
              rowKey={(one) => one.name}
              columns={[
                { title: t("common.name"), dataIndex: "name" },
                { title: t("here.expires"), render: (_, one) => moment(one.expires) },
                {
                  title: t("here.days"),
                  align: "right",
                  render: (_, one) => (
                    <Dot tone={one.daysLeft < 30 ? "bad" : "calm"} text={n(one.daysLeft)} />
                  ),
                },
              ]}
            />
          </Panel>
          <Panel title={t("here.disks")}>
            <DataTable
              label={t("here.disks")}
              rows={status.disks}
              rowKey={(one) => one.path}
              columns={[
                { title: t("here.path"), dataIndex: "path" },
                {
                  title: t("here.free"),
                  align: "right",
                  render: (_, one) =>
                    t("common.of", { used: size(one.freeBytes), all: size(one.totalBytes) }),
                },
              ]}
            />
          </Panel>
        </div>
      )}
    </>
  );
}
