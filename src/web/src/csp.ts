// Styles that scripts add get the nonce of this answer, so that the page's policy lets
// them in: antd's and the terminal's, and nothing that got in as text.
//
// Why here and not in each library's settings: some have none. It weakens nothing: only
// our own scripts run, and markup that is not theirs does not come through createElement.

export function allowOwnStyles(): void {
  const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce;
  if (!nonce) return;
  const create = Document.prototype.createElement;
  Document.prototype.createElement = function (
    this: Document,
    name: string,
    options?: ElementCreationOptions,
  ) {
    const element = create.call(this, name, options);
    if (element instanceof HTMLStyleElement) element.nonce = nonce;
    return element;
  } as typeof create;
}
