"""Filler words that models write instead of a domain's name, by language. Pure data; used by tree/names.py."""

from __future__ import annotations

from bohdi_ray.languages.names import name_key

# fmt: off
_WORDS = (
    # English
    "Unk", "Unknown", "Unnamed", "Untitled", "Undefined", "Undecided", "None", "Null", "Nil", "Nan", "Na", "Tbd",
    "Todo", "Any", "Empty", "Blank", "Nothing", "Default", "Placeholder", "Other", "Others", "Misc",
    "Miscellaneous", "Various", "General", "Etc", "Example", "Examples", "Topic", "Topics", "Domain", "Domains",
    "Subdomain", "Category", "Categories", "Name", "Names", "Root", "Not Applicable", "Not Available",
    "Main Domain", "Secondary Domain", "Sub Domain", "Domain Name", "New Domain",
    # German, Dutch
    "Unbekannt", "Unbenannt", "Sonstige", "Sonstiges", "Andere", "Anderes", "Verschiedenes", "Diverses", "Allgemein",
    "Allgemeines", "Keine", "Keines", "Nichts", "Leer", "Beispiel", "Beispiele", "Thema", "Themen", "Kategorie",
    "Domäne", "Unterdomäne", "Hauptdomäne", "Platzhalter", "Onbekend", "Overig", "Overige", "Diversen", "Geen",
    "Onderwerp", "Categorie", "Algemeen", "Voorbeeld",
    # French
    "Inconnu", "Inconnue", "Autre", "Autres", "Divers", "Général", "Générale", "Aucun", "Aucune", "Rien", "Vide",
    "Exemple", "Exemples", "Sujet", "Sujets", "Thème", "Thèmes", "Catégorie", "Catégories", "Domaine", "Domaines",
    "Sous Domaine", "Domaine Principal", "Sans Nom", "Nom",
    # Spanish, Portuguese, Italian
    "Desconocido", "Desconocida", "Otro", "Otra", "Otros", "Otras", "Varios", "Ninguno", "Ninguna", "Nada", "Vacío",
    "Ejemplo", "Ejemplos", "Tema", "Temas", "Categoría", "Categorías", "Dominio", "Dominios", "Subdominio",
    "Dominio Principal", "Sin Nombre", "Nombre", "Desconhecido", "Desconhecida", "Outro", "Outra", "Outros", "Outras",
    "Vários", "Diversos", "Nenhum", "Nenhuma", "Geral", "Exemplo", "Categoria", "Domínio", "Subdomínio", "Nome",
    "Sconosciuto", "Sconosciuta", "Altro", "Altri", "Altre", "Vari", "Varie", "Nessuno", "Nessuna", "Niente",
    "Generale", "Esempio", "Argomento", "Sottodominio",
    # Polish, Czech, Turkish, Vietnamese, Indonesian
    "Nieznany", "Nieznane", "Inne", "Różne", "Ogólne", "Brak", "Przykład", "Temat", "Kategoria", "Domena", "Neznámý",
    "Neznámé", "Ostatní", "Různé", "Obecné", "Bilinmeyen", "Bilinmiyor", "Diğer", "Diğerleri", "Çeşitli", "Genel",
    "Hiçbiri", "Yok", "Boş", "Örnek", "Konu", "Kategori", "Không Rõ", "Không Biết", "Khác", "Chung", "Không Có",
    "Ví Dụ", "Chủ Đề", "Lĩnh Vực", "Danh Mục", "Tidak Diketahui", "Lainnya", "Umum", "Contoh", "Topik",
    # Russian, Ukrainian, Greek
    "Неизвестно", "Неизвестный", "Неизвестное", "Другое", "Другие", "Прочее", "Прочие", "Разное", "Общее", "Нет",
    "Ничего", "Пусто", "Пример", "Примеры", "Тема", "Темы", "Категория", "Категории", "Область", "Домен", "Поддомен",
    "Название", "Без Названия", "Невідомо", "Невідоме", "Інше", "Інші", "Різне", "Загальне", "Немає", "Приклад",
    "Категорія", "Άγνωστο", "Άγνωστος", "Άλλο", "Άλλα", "Διάφορα", "Γενικά", "Κανένα", "Τίποτα", "Παράδειγμα", "Θέμα",
    "Κατηγορία", "Τομέας",
    # Arabic, Persian, Hebrew, Hindi, Thai
    "غير معروف", "مجهول", "أخرى", "آخر", "متنوع", "متفرقات", "عام", "لا شيء", "لا يوجد", "مثال", "موضوع", "مواضيع",
    "فئة", "مجال", "نطاق", "ناشناخته", "دیگر", "سایر", "متفرقه", "عمومی", "هیچ", "نمونه", "לא ידוע", "אחר", "אחרים",
    "שונות", "כללי", "אין", "ריק", "דוגמה", "נושא", "נושאים", "קטגוריה", "תחום", "अज्ञात", "अन्य", "विविध", "सामान्य",
    "कोई नहीं", "कुछ नहीं", "उदाहरण", "विषय", "श्रेणी", "डोमेन", "ไม่ทราบ", "ไม่รู้จัก", "อื่น", "อื่นๆ",
    "ทั่วไป", "ไม่มี",
    "ตัวอย่าง", "หัวข้อ", "หมวดหมู่",
    # Chinese, Japanese, Korean
    "未知", "不明", "未命名", "未定义", "未定義", "其他", "其它", "其餘", "其余", "杂项", "雜項", "综合",
    "綜合", "一般", "通用", "无",
    "無", "没有", "沒有", "空", "空白", "示例", "例子", "范例", "範例", "主题", "主題", "话题", "話題", "领域",
    "領域", "类别", "類別",
    "分类", "分類", "名称", "名稱", "子领域", "子領域", "主领域", "主要领域", "その他", "そのほか", "不詳",
    "なし", "無し", "例",
    "トピック", "テーマ", "カテゴリ", "カテゴリー", "ドメイン", "分野", "名前", "알 수 없음", "알수없음",
    "미상", "미정", "기타", "그 외",
    "일반", "없음", "예시", "예", "주제", "분야", "도메인", "카테고리", "이름",
)
# fmt: on
FILLER_KEYS = frozenset(map(name_key, _WORDS))
FILLERS = frozenset(_WORDS)
