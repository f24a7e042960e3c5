<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="file://@CANARY_FILE@"/><image xlink:href="@CANARY@/in_svg"/></svg>
