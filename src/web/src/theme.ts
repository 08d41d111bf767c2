// Colours and sizes: restrained and dense; every text has a contrast of 4.5 at least.

import type { ThemeConfig } from "antd";

export const THEME: ThemeConfig = {
  token: {
    colorPrimary: "#0b4a78",
    colorInfo: "#0b4a78",
    colorLink: "#0b5a94",
    colorLinkHover: "#093c62",
    colorLinkActive: "#093c62",
    colorSuccess: "#1a7f45",
    colorWarning: "#9a6700",
    colorError: "#b42318",
    colorWarningBg: "#fdf7e6",
    colorWarningBorder: "#e3cb8c",
    colorErrorBg: "#fdf1f0",
    colorErrorBorder: "#ecbcb7",
    colorInfoBg: "#eef5fa",
    colorInfoBorder: "#b8d2e4",
    colorText: "#1c2733",
    colorTextSecondary: "#4a5866",
    colorTextTertiary: "#5a6875",
    colorTextDescription: "#5a6875",
    colorTextPlaceholder: "#687684",
    colorBorder: "#c3ccd5",
    colorBorderSecondary: "#e1e7ec",
    borderRadius: 4,
    fontSize: 13,
    fontSizeSM: 12,
    controlHeight: 28,
    controlHeightLG: 36,
    padding: 12,
    paddingLG: 16,
    margin: 12,
    marginLG: 16,
    fontFamily:
      'system-ui, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif',
    motion: false,
    wireframe: false,
  },
  components: {
    Table: {
      headerBg: "#f6f8fa",
      headerColor: "#4a5866",
      rowHoverBg: "#f3f7fa",
      cellPaddingBlockSM: 5,
    },
    Tabs: { horizontalMargin: "0 0 12px 0" },
  },
};
