// The frame: who, where, whether connected; the way to every page; the page itself.

import { Alert, Button, Drawer } from "antd";
import { type ComponentType, lazy, Suspense, useEffect, useMemo, useState } from "react";
import { Link, Route, Router, Switch, useLocation } from "wouter";
import { connection } from "../api/connection";
import { discover, type Kind, listPage, sections } from "../api/kinds";
import { choose, type Key, useWords } from "../i18n";
import { end } from "../session";
import { useLink, useSession } from "./hooks";
import { KindsContext } from "./kinds-context";
import { Loading } from "./states";

const page = (load: () => Promise<{ default: ComponentType }>) => lazy(load);
const Overview = page(() => import("../pages/overview"));
const Nodes = page(() => import("../pages/nodes"));
const Node = page(() => import("../pages/node"));
const KindList = page(() => import("../pages/kind-list"));
const KindDetail = page(() => import("../pages/kind-detail"));
const Pods = page(() => import("../pages/pods"));
const Pod = page(() => import("../pages/pod"));
const Deploy = page(() => import("../pages/deploy"));
const Config = page(() => import("../pages/config"));
const ConfigDetail = page(() => import("../pages/config-detail"));
const Events = page(() => import("../pages/events"));
const Audit = page(() => import("../pages/audit"));
const ThisNode = page(() => import("../pages/this-node"));

function Entry({ href, text }: { href: string; text: string }) {
  const [place] = useLocation();
  const here = place === href || (href !== "/" && place.startsWith(`${href}/`));
  return (
    <li>
      <Link href={href} aria-current={here ? "page" : undefined}>
        {text}
      </Link>
    </li>
  );
}

function Navigation({ kinds, failed }: { kinds: Kind[]; failed: boolean }) {
  const { t } = useWords();
  const groups = useMemo(() => sections(kinds), [kinds]);
  return (
    <nav className="nav" aria-label={t("app.menu")}>
      <h2>{t("nav.section.operate")}</h2>
      <ul>
        <Entry href="/" text={t("nav.overview")} />
        <Entry href="/nodes" text={t("nav.nodes")} />
        <Entry href="/deploy" text={t("nav.deploy")} />
        <Entry href="/config" text={t("nav.config")} />
        <Entry href="/events" text={t("nav.events")} />
        <Entry href="/audit" text={t("nav.audit")} />
        <Entry href="/this-node" text={t("nav.thisNode")} />
      </ul>
      {failed && kinds.length === 0 && <p className="soft nav-failed">{t("nav.failed")}</p>}
      {groups.map((group) => (
        <div key={group.name}>
          <h2>{t(`nav.section.${group.name}` as Key)}</h2>
          <ul>
            {group.kinds.map((kind) => (
              <Entry
                key={`${kind.group}/${kind.plural}`}
                href={kind.group === "" && kind.plural === "pods" ? "/pods" : listPage(kind)}
                text={kind.kind}
              />
            ))}
          </ul>
        </div>
      ))}
    </nav>
  );
}

function Bar({ onMenu }: { onMenu: () => void }) {
  const { t, language, clock } = useWords();
  const session = useSession();
  const link = useLink();
  const words = {
    up: t("link.up"),
    noMajority: t("link.noMajority"),
    down: t("link.down", { time: clock(connection.lastHeard()) }),
  };
  return (
    <header className="bar">
      <Button type="text" className="burger" onClick={onMenu}>
        {t("app.menu")}
      </Button>
      <Link href="/" className="brand" aria-label={t("app.title")}>
        <img src="/ui/icon.svg" alt="" />
        <span>Holdfast</span>
      </Link>
      <span className="cluster">{session.cluster}</span>
      <span className="where">{t("app.node", { node: session.node ?? "" })}</span>
      <span className="grow" />
      <span className={`link ${link}`} role="status" data-link={link}>
        <span>{words[link]}</span>
      </span>
      <span
        className="where who"
        title={session.method && t(`app.method.${session.method}` as Key)}
      >
        {session.user}
      </span>
      <Button
        type="text"
        lang={language === "zh" ? "en" : "zh-CN"}
        onClick={() => choose(language === "zh" ? "en" : "zh")}
      >
        {language === "zh" ? "English" : "中文"}
      </Button>
      <Button type="text" onClick={() => void end("out")}>
        {t("app.signOut")}
      </Button>
    </header>
  );
}

function Cut() {
  const { t, clock } = useWords();
  const session = useSession();
  const link = useLink();
  const node = session.node ?? "";
  if (link === "up") return null;
  return link === "down" ? (
    <Alert
      className="banner"
      type="error"
      showIcon
      title={t("link.down", { time: clock(connection.lastHeard()) })}
      description={t("link.downHint", { node })}
    />
  ) : (
    <Alert
      className="banner"
      type="warning"
      showIcon
      title={t("link.noMajority")}
      description={t("link.noMajorityHint", { node })}
      action={<Link href="/this-node">{t("link.thisNode")}</Link>}
    />
  );
}

function NotFound() {
  const { t } = useWords();
  return (
    <div className="lost">
      <h1>{t("app.notFound")}</h1>
      <Link href="/">{t("app.home")}</Link>
    </div>
  );
}

/** Another object is another page: nothing of the one before may be seen on it. */
function Pages() {
  const [place] = useLocation();
  return (
    <Suspense fallback={<Loading />} key={place}>
      <Switch>
        <Route path="/" component={Overview} />
        <Route path="/nodes" component={Nodes} />
        <Route path="/nodes/:name" component={Node} />
        <Route path="/pods" component={Pods} />
        <Route path="/pods/:ns/:name" component={Pod} />
        <Route path="/kinds/:group/:version/:plural" component={KindList} />
        <Route path="/kinds/:group/:version/:plural/:ns/:name" component={KindDetail} />
        <Route path="/deploy" component={Deploy} />
        <Route path="/config" component={Config} />
        <Route path="/config/:plural/:ns/:name" component={ConfigDetail} />
        <Route path="/events" component={Events} />
        <Route path="/audit" component={Audit} />
        <Route path="/this-node" component={ThisNode} />
        <Route component={NotFound} />
      </Switch>
    </Suspense>
  );
}

function Frame() {
  const { t } = useWords();
  const [kinds, setKinds] = useState<Kind[]>([]);
  const [failed, setFailed] = useState(false);
  const [menu, setMenu] = useState(false);
  const [place] = useLocation();
  const link = useLink();
  // biome-ignore lint/correctness/useExhaustiveDependencies: asked again when the node is back
  useEffect(() => {
    discover()
      .then((found) => {
        setKinds(found);
        setFailed(false);
      })
      .catch(() => setFailed(true));
  }, [link]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another page closes the menu
  useEffect(() => setMenu(false), [place]);
  const navigation = <Navigation kinds={kinds} failed={failed} />;
  return (
    <KindsContext.Provider value={kinds}>
      <a className="skip" href="#main">
        {t("app.skip")}
      </a>
      <div className="shell">
        <Bar onMenu={() => setMenu(true)} />
        <div className="side">{navigation}</div>
        <Drawer open={menu} onClose={() => setMenu(false)} placement="left" title={t("app.menu")}>
          {navigation}
        </Drawer>
        <main className="main" id="main" tabIndex={-1}>
          <Cut />
          <Pages />
        </main>
      </div>
    </KindsContext.Provider>
  );
}

export const Shell = () => (
  <Router base="/ui">
    <Frame />
  </Router>
);
