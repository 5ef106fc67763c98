"""The same sentence in many languages (Article 1 of the Universal Declaration of Human Rights), and questions."""

ARTICLE_1 = {
    "English": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit "
    "Vernunft und Gewissen begabt "
    "und sollen einander im Geist der Brüderlichkeit begegnen.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены "
    "разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. "
    "Είναι προικισμένοι με "
    "λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    "Arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن "
    "يعامل بعضهم بعضا بروح "
    "الإخاء.",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה עליהם לנהוג "
    "איש ברעהו ברוח של אחווה.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त "
    "है। उन्हें बुद्धि और अन्तरात्मा "
    "की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
    "Tamil": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும், "
    "உரிமைகளிலும் சமமானவர்கள். அவர்கள் "
    "நியாயத்தையும் மனச்சாட்சியையும் இயற்பண்பாகப் பெற்றவர்கள்.",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
    "人間は、理性と良心とを"
    "授けられており、互いに同胞の精神をもって行動しなければならない。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 "
    "부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. "
    "Mọi con người đều được "
    "tạo hóa ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình anh em.",
    "Turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana "
    "sahiptirler ve birbirlerine "
    "karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    "Amharic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። የተፈጥሮ ማስተዋልና ሕሊና ስላለው አንዱ ሌላውን "
    "በወንድማማችነት መንፈስ መመልከት ይገባዋል።",
}
# Each asks why the sky is blue by day and red in the evening: good questions all.
QUESTIONS = {
    "English": "Why is the sky blue by day and red in the evening?",
    "German": "Warum ist der Himmel tags blau und abends rot?",
    "Russian": "Почему небо днём голубое, а вечером красное?",
    "Greek": "Γιατί ο ουρανός είναι γαλάζιος τη μέρα και κόκκινος το βράδυ;",
    "Arabic": "لماذا تكون السماء زرقاء نهارا وحمراء مساء؟",
    "Hebrew": "מדוע השמיים כחולים ביום ואדומים בערב?",
    "Hindi": "आकाश दिन में नीला और शाम को लाल क्यों होता है?",
    "Tamil": "வானம் பகலில் நீலமாகவும் மாலையில் சிவப்பாகவும் இருப்பது ஏன்?",
    "Thai": "ทำไมท้องฟ้าเป็นสีฟ้าตอนกลางวันและสีแดงตอนเย็น",
    "Chinese": "为什么天空白天是蓝色的，傍晚却是红色的？",
    "Japanese": "なぜ空は昼に青く、夕方に赤いのですか。",
    "Korean": "하늘은 왜 낮에는 파랗고 저녁에는 붉은가요?",
    "Vietnamese": "Vì sao bầu trời ban ngày xanh mà chiều tối lại đỏ?",
}
# Each asks what light is: too little to be a question of a harvest.
TOO_SHORT = {
    "English": "What is light?",
    "German": "Was ist Licht?",
    "Russian": "Что такое свет?",
    "Greek": "Τι είναι το φως;",
    "Arabic": "ما هو الضوء؟",
    "Hebrew": "מהו אור?",
    "Hindi": "प्रकाश क्या है?",
    "Tamil": "ஒளி என்றால் என்ன?",
    "Thai": "แสงคืออะไร",
    "Chinese": "什么是光？",
    "Japanese": "光とは何ですか。",
    "Korean": "빛이란 무엇인가요?",
    "Vietnamese": "Ánh sáng là gì?",
    "emoji": "🌞🌈🌊❓",
}
