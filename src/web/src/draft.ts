// What somebody is writing, kept in memory while he looks at other pages or his session ends
// by idleness; never for another person, and gone with the page.

interface Draft {
  user: string;
  text: string;
  namespace: string;
}

let kept: Draft | undefined;

export const keepDraft = (draft: Draft): void => {
  kept = draft;
};

export const draftOf = (user: string): Draft | undefined =>
  kept?.user === user ? kept : undefined;

export const forgetDraft = (): void => {
  kept = undefined;
};
